"""Which layers AlignEZ edits: v1 ranks them once by CCS loss, v2 anew for each query."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from harness.api import PlumblineError
from methods._alignez_edits import Compat


def ccs_gap(losses: Sequence[float], compat: Compat = "paper") -> list[int]:
    """Give the layers before the largest jump of the running mean of sorted losses.

    losses  one per layer; the smaller, the better the layer tells the two apart.
    compat  "as_released" keeps one layer fewer, as its index arithmetic does, and
            one at least.

    Returns layer numbers, best first: one at least and, where there are several
    layers, never all of them.
    """
    order = sorted(range(len(losses)), key=lambda layer: (losses[layer], layer))
    means = [
        total / (n + 1) for n, total in enumerate(accumulate(losses[layer] for layer in order))
    ]
    jumps = [after - before for before, after in pairwise(means)]
    if not jumps:
        return order
    count = 1 + max(range(len(jumps)), key=lambda n: jumps[n])
    return order[: max(1, count - (compat == "as_released"))]


def alignment(cosines: Tensor, kept: Tensor) -> Tensor:
    """Give how much of a query lies in the directions kept for it.

        score_l(q) = sqrt( sum over kept theta of cos(phi_l(q), theta)^2 )

    cosines, kept  [queries, layers, directions].  Returns [queries, layers].
    """
    return (cosines * kept).square().sum(-1).sqrt()


def top_layers(scores: Tensor, n: int) -> Tensor:
    """Say which ``n`` layers score highest for each query; a score of 0 is never chosen.

    scores  [queries, layers].  Returns the same shape, True where edited: never all
    of several layers, for editing everywhere breaks a text.
    """
    layers = scores.shape[-1]
    best = scores.topk(max(1, min(n, layers - 1)), dim=-1).indices
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
    return chosen & (scores > 0)


def named_layers(asked: Sequence[int], layers: int) -> list[int]:
    """Check a fixed list of layers and count negative ones from the end."""
    for layer in asked:
        if not -layers <= layer < layers:
            raise PlumblineError(
                f"alignez.layers names layer {layer}; the model has {layers}, so it must lie in "
                f"[{-layers}, {layers - 1}]"
            )
    return sorted({layer % layers for layer in asked})
