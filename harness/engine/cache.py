"""A key-value cache that grows in chunks and moves with the rows.

The library's dynamic cache concatenates at every step, which copies the whole
cache once per token; this one writes in place and copies once per chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

CHUNK = 128  # tokens of room added at a time


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """One layer: ``keys`` and ``values`` are views of the filled part of two buffers."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.filled = 0
        self.own: tuple[Tensor, Tensor, int] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._keys = _room(key_states, key_states.shape[-2])
            self._values = _room(value_states, value_states.shape[-2])
        start, end = self.filled, self.filled + key_states.shape[-2]
        if self.own is not None:
            end = self.own[2]
        if end > self._keys.shape[-2]:
            self._keys = _grown(self._keys, start, end)
            self._values = _grown(self._values, start, end)
        if self.own is None:
            self._keys[:, :, start:end] = key_states
            self._values[:, :, start:end] = value_states
        else:
            row, column, _ = self.own
            for buffer, new in ((self._keys, key_states), (self._values, value_states)):
                buffer[:, :, start:end] = 0  # what a younger row has not reached is masked, not NaN
                buffer[row, :, column] = new[:, :, 0]
        self.filled = end
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.filled

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.filled + query_length, 0

    def crop(self, max_length: int) -> None:
        self.filled = min(max_length, self.filled)
        if self.filled:
            self._show()

    def keep(self, start: int, columns: Tensor) -> None:
        """Move each row's ``columns`` [rows, n] to ``start``, and forget what lies beyond them."""
        end = start + columns.shape[1]
        for buffer in (self._keys, self._values):
            index = columns[:, None, :, None].expand(-1, buffer.shape[1], -1, buffer.shape[3])
            buffer[:, :, start:end] = buffer.gather(2, index)
        self.filled = end
        self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        if not self.filled:
            return
        for name in ("_keys", "_values"):
            old: Tensor = getattr(self, name)
            new = old.new_empty((indices.shape[0], *old.shape[1:]))
            new[:, :, : self.filled] = old[:, :, : self.filled].index_select(0, indices)
            setattr(self, name, new)
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (b[:, :, : self.filled] for b in (self._keys, self._values))


def _room(like: Tensor, need: int) -> Tensor:
    size = (need + CHUNK - 1) // CHUNK * CHUNK
    if size == need:  # leave room for the first draws
        size += CHUNK
    return like.new_empty((*like.shape[:2], size, like.shape[-1]))


def _grown(old: Tensor, filled: int, need: int) -> Tensor:
    new = _room(old, need)
    new[:, :, :filled] = old[:, :, :filled]
    return new


class GrowingCache(Cache):  # type: ignore[misc]
    """A cache of growing layers; ``batch_select_indices`` forks and prunes it."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_GrowingLayer() for _ in range(layers)])

    def put(self, at: Tensor) -> None:
        """Write the coming token of each row in its own column ``at`` [rows], and so on."""
        own = (torch.arange(len(at), device=at.device), at, int(at.max()) + 1)
        for layer in self.layers:
            layer.own = own

    def keep(self, start: int, columns: Tensor) -> None:
        """Keep the first ``start`` columns, and behind them each row's ``columns`` [rows, n]."""
        for layer in self.layers:
            layer.keep(start, columns)


def new_cache(config: Any) -> Any:
    """Make an empty cache: a growing one, or the library's own where layers are special.

    Models with sliding windows, recurrent states or shared layers need the
    library's cache, which is slower but knows their layouts.
    """
    text = config.get_text_config(decoder=True)
    return GrowingCache(text.num_hidden_layers) if uniform(config) else DynamicCache(config=text)


def uniform(config: Any) -> bool:
    """Say whether every layer attends to all earlier positions."""
    text = config.get_text_config(decoder=True)
    kinds = getattr(text, "layer_types", None)
    if kinds is not None:
        return set(kinds) == {"full_attention"}
    return getattr(text, "sliding_window", None) is None and not getattr(text, "alibi", False)
