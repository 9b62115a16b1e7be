"""Temperature, top-k, top-p; noise as data; the draw.

A row (seed, prompt, turn, candidate) owns a stream of uniforms; its t-th token
is the inverse CDF of the filtered distribution at the t-th uniform.  Hence
neither batch size nor order nor sharding changes a sample, and every method
meets the same luck.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import PlumblineError


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the same for every row of a table.

    temperature     0 is greedy.
    top_k           keep the k likeliest tokens; 0 keeps all.
    top_p           keep the smallest set of likeliest tokens with this mass.
    max_new_tokens  the budget, the end token included.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise PlumblineError(f"temperature is {self.temperature}; it must be 0 or more")
        if self.top_k < 0:
            raise PlumblineError(f"top_k is {self.top_k}; it must be 0 (off) or more")
        if not 0 < self.top_p <= 1:
            raise PlumblineError(f"top_p is {self.top_p}; it must lie in (0, 1]")
        if self.max_new_tokens < 1:
            raise PlumblineError(f"max_new_tokens is {self.max_new_tokens}; it must be 1 or more")

    @property
    def plain(self) -> bool:
        """True when a sample follows the model's own distribution."""
        return self.temperature == 1.0 and self.top_k == 0 and self.top_p == 1.0


def uniforms(key: Sequence[object], count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Give the first ``count`` uniforms of the stream named by ``key``; a prefix is stable."""
    name = "\x1f".join(str(part) for part in key).encode()
    digest = hashlib.blake2b(name, digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big"))).random(count)


class Luck:
    """The uniforms of one batch: row (seed, prompt, turn, candidate) owns a stream.

    keys  one (seed, prompt id, turn) per prompt.
    salt  name of another stream than the seed's own; empty for its own.
    """

    def __init__(
        self,
        keys: Sequence[tuple[object, ...]],
        width: int,
        budget: int,
        salt: str,
        device: torch.device,
    ) -> None:
        self.keys = keys
        self.budget = budget
        self.tail = (salt,) if salt else ()
        self.device = device
        self.table = self._streams(0, width)

    def _streams(self, first: int, beyond: int) -> Tensor:
        """Give the uniforms of each prompt's candidates [first, beyond)."""
        streams = range(first, beyond)
        table = [[uniforms((*k, s, *self.tail), self.budget) for s in streams] for k in self.keys]
        return torch.from_numpy(np.array(table)).to(self.device)

    def at(self, origin: Tensor, slot: Tensor, drawn: int | Tensor) -> Tensor:
        """Give each row's uniform for its next token, [rows] float64; drawn may be each row's."""
        if isinstance(drawn, Tensor):  # what is drawn again is numbered on, without a bound
            most, held = int(slot.max()), self.table.shape[1]
            if most >= held:
                self.table = torch.cat([self.table, self._streams(held, most + held + 1)], dim=1)
        return self.table[origin, slot, drawn]

    def stream(self, name: str, origin: Tensor, slot: Tensor, drawn: int | Tensor) -> Tensor:
        """Give each row's uniform from a method's own stream, [rows] float64."""
        at = torch.as_tensor(drawn).expand(origin.shape).tolist()
        values = [
            uniforms((*self.keys[o], s, *self.tail, name), t + 1)[t]
            for o, s, t in zip(origin.tolist(), slot.tolist(), at, strict=True)
        ]
        return torch.tensor(values, dtype=torch.float64, device=origin.device)


def filtered(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set logits outside the top-k and the top-p set to -inf.  [rows, vocabulary]."""
    if top_k and top_k < logits.shape[-1]:
        kth = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        outside = (before >= top_p).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(outside, float("-inf"))
    return logits


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token a row by inverse CDF.  logits [rows, vocabulary], uniform [rows] in [0, 1).

    The CDF is taken in float64: a float32 one would give tokens of mass 1e-8 no chance.
    """
    cdf = logits.double().softmax(-1).cumsum(-1)
    target = (uniform.to(cdf) * cdf[:, -1]).unsqueeze(-1)
    token = torch.searchsorted(cdf, target, right=True).squeeze(-1)
    return token.clamp_(max=logits.shape[-1] - 1)
