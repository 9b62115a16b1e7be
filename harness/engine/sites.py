"""Where the named places are in each architecture; the only file that knows model families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.engine.rows import Step
from harness.engine.steering import HiddenEdit, Site
from harness.errors import PlumblineError

# Paths tried in order, from the causal-LM module and from a block.
_BLOCKS = ("model.layers", "transformer.h", "gpt_neox.layers", "model.decoder.layers")
_FINAL = (
    "model.norm",
    "model.final_layernorm",
    "transformer.ln_f",
    "gpt_neox.final_layer_norm",
    "model.decoder.final_layer_norm",
)
_ATTENTION = ("self_attn", "self_attention", "attn", "attention")
_MLP = ("mlp",)
_OUTPUT = ("o_proj", "dense", "c_proj", "out_proj")


def _get(root: nn.Module, path: str) -> nn.Module | None:
    found: Any = root
    for part in path.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return found if isinstance(found, nn.Module) else None


def _first(root: nn.Module, paths: Sequence[str], what: str, kind: str) -> nn.Module:
    for path in paths:
        found = _get(root, path)
        if found is not None:
            return found
    raise PlumblineError(
        f"{kind}: no {what} found (looked for {', '.join(paths)}); "
        "name the place by its module path instead: Site.module('path.to.module')"
    )


def blocks(net: nn.Module) -> nn.ModuleList:
    """Find the list of transformer blocks; raises PlumblineError for an unknown architecture."""
    found = _first(net, _BLOCKS, "list of blocks", type(net).__name__)
    assert isinstance(found, nn.ModuleList)
    return found


@dataclass(frozen=True)
class Place:
    """A module, and whether the site is its output or its (per-head) input."""

    module: nn.Module
    heads: int | None = None


def resolve(net: nn.Module, site: Site) -> Place:
    """Find a site in a model.

    Raises PlumblineError for an index out of range or an unknown architecture,
    saying what was looked for and how to name the place by its module path.
    """
    kind = type(net).__name__
    if site.place == "module":
        found = _get(net, site.path)
        if found is None:
            raise PlumblineError(f"{kind} has no module at {site.path!r}")
        return Place(found)
    if site.place == "final":
        return Place(_first(net, _FINAL, "final norm", kind))
    layers = blocks(net)
    if not -len(layers) <= site.index < len(layers):
        raise PlumblineError(
            f"{site}: {kind} has {len(layers)} blocks, so the index must lie in "
            f"[{-len(layers)}, {len(layers) - 1}]"
        )
    block = layers[site.index]
    if site.place == "layer":
        return Place(block)
    if site.place == "mlp":
        return Place(_first(block, _MLP, "feed-forward part of a block", kind))
    attention = _first(block, _ATTENTION, "attention part of a block", kind)
    if site.place == "attention" and _get(attention, "attention.out_proj") is None:
        return Place(attention)
    inner = _get(attention, "attention") or attention  # GPT-Neo nests its attention once more
    if site.place == "attention":
        return Place(inner)
    output = _first(inner, _OUTPUT, "output projection of attention", kind)
    heads = net.config.get_text_config(decoder=True).num_attention_heads  # type: ignore[union-attr,operator]
    return Place(output, heads=heads)


class Told:
    """The step the loop is about to run; hooks read it instead of guessing.

    None: a pass of somebody else's, such as that of a method that reads the bare policy.
    """

    step: Step | None = None


@contextmanager
def edited(net: nn.Module, edits: Sequence[HiddenEdit], told: Told) -> Iterator[None]:
    """Apply the edits inside the block; nothing is left on the model after it."""
    handles: list[Any] = []
    try:
        for edit in edits:
            place = resolve(net, edit.site)
            handles.append(_attach(place, _apply(edit, told)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(
    net: nn.Module, sites: Sequence[Site], keep: Callable[[int, Tensor], None]
) -> Iterator[None]:
    """Call ``keep(number of the site, its tensor)`` for every pass inside the block."""
    handles: list[Any] = []

    def read(number: int) -> Callable[[Tensor], Tensor]:
        def look(hidden: Tensor) -> Tensor:
            # Some blocks (Falcon's) add the residual to a part's output in place.
            own = sites[number].place in ("mlp", "attention", "module")
            keep(number, hidden.clone() if own else hidden)
            return hidden

        return look

    try:
        for number, site in enumerate(sites):
            handles.append(_attach(resolve(net, site), read(number)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _apply(edit: HiddenEdit, told: Told) -> Callable[[Tensor], Tensor]:
    def apply(hidden: Tensor) -> Tensor:
        if told.step is None:
            return hidden
        out = edit.edit(hidden, told.step)
        if out.shape != hidden.shape:
            raise PlumblineError(
                f"an edit at {edit.site} returned shape {tuple(out.shape)}; "
                f"it must keep {tuple(hidden.shape)}"
            )
        out = out.to(hidden.dtype)
        if hidden.shape[1] == 1 or out is hidden:
            return out
        # Padding stays as it was: attention multiplies it by zero, which does not undo a NaN.
        real = told.step.real
        return torch.where(real.view(*real.shape, *[1] * (hidden.dim() - 2)), out, hidden)

    return apply


def _attach(place: Place, change: Callable[[Tensor], Tensor]) -> Any:
    """Hook a module's output (tensor, or tuple with the tensor first) or its per-head input."""
    if place.heads is not None:
        heads = place.heads

        def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            flat = args[0]
            split = flat.view(*flat.shape[:-1], heads, flat.shape[-1] // heads)
            new = change(split)
            return args if new is split else (new.reshape(flat.shape), *args[1:])

        return place.module.register_forward_pre_hook(before)

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        new = change(hidden)
        if new is hidden:
            return output
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return place.module.register_forward_hook(after)


def width(net: nn.Module) -> int:
    """Width of the residual stream."""
    return int(net.config.get_text_config(decoder=True).hidden_size)  # type: ignore[union-attr,operator]


__all__ = ["Place", "Told", "blocks", "edited", "recorded", "resolve", "width"]
