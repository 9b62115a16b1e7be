"""AlignEZ v1: a helpful and a harmful direction per layer, the same for every query or by kNN.

help  first right singular vector of the helpful states           (always)
harm  the same of the harmful states (svd), or a CCS probe's weights (ccs)
knn   both by SVD on the k pairs whose queries are nearest to this one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from harness.api import Json, PlumblineError
from methods._alignez_ccs import DEGENERATE, Centring, Probe, harmful_direction, train_probe
from methods._alignez_directions import mean_share, top_direction
from methods._alignez_edits import Compat, projected
from methods._alignez_layers import ccs_gap
from methods._alignez_states import Measured, relative_size

Source = Literal["svd", "ccs"]
SAME = 0.9  # cosine above which the two directions are one: the mean state


@dataclass(frozen=True)
class Probing:
    """How a layer's CCS probe is trained."""

    seed: int
    centring: Centring = "raw"
    restarts: int = 10
    steps: int = 1000

    def probe(self, measured: Measured, layer: int) -> Probe:
        """Train a layer's probe under luck of its own."""
        luck = torch.Generator().manual_seed(self.seed * 1000 + layer)
        return train_probe(
            measured.good[layer],
            measured.bad[layer],
            luck,
            centring=self.centring,
            restarts=self.restarts,
            steps=self.steps,
        )


@dataclass(frozen=True)
class Poles:
    """What v1 learned about a trait: [layers, width] each, zero where there is none."""

    help: Tensor
    harm: Tensor
    layers: list[int]
    facts: Mapping[str, Json]
    warnings: list[str] = field(default_factory=list)


def poles(
    measured: Measured, source: Source, probing: Probing, fixed: Sequence[int], compat: Compat
) -> Poles:
    """Find both directions at every layer, and the layers to edit.

    fixed  layers to edit; where empty, those before the gap in the CCS losses.
    """
    count = len(measured.good)
    wanted = source == "ccs" or not fixed
    probes = [probing.probe(measured, layer) for layer in range(count)] if wanted else []
    layers = list(fixed) or ccs_gap([probe.loss for probe in probes], compat)
    help = torch.stack([top_direction(measured.good[layer]) for layer in range(count)])
    if source == "svd":
        harm = torch.stack([top_direction(measured.bad[layer]) for layer in range(count)])
    else:
        harm = torch.stack(
            [
                harmful_direction(probe, measured.good[i], measured.bad[i], compat)[0]
                for i, probe in enumerate(probes)
            ]
        )
    for layer in layers:
        if not bool(help[layer].any()):
            raise PlumblineError(
                f"alignez: the helpful states of layer {layer} are all zero, so they have no "
                "direction; choose another site or other layers"
            )
    between = torch.cosine_similarity(help, harm, dim=-1).abs()
    facts: dict[str, Json] = {
        "layers": layers,
        "cosine of help and harm": _rounded(between),
        "share of energy in the mean": [
            [round(mean_share(stack[i]), 4) for stack in (measured.good, measured.bad)]
            for i in range(count)
        ],
        "change over state": relative_size(
            projected(measured.query, harm[:, None], help[:, None], compat), measured.query
        ),
    }
    if probes:
        facts["ccs loss"] = [round(probe.loss, 5) for probe in probes]
        facts["ccs verdict"] = [
            probe.verdict(measured.good[i], measured.bad[i]) for i, probe in enumerate(probes)
        ]
    return Poles(help, harm, layers, facts, _warnings(layers, between, probes, facts, source))


def _warnings(
    layers: Sequence[int],
    between: Tensor,
    probes: Sequence[Probe],
    facts: Mapping[str, Json],
    source: Source,
) -> list[str]:
    found = []
    same = [layer for layer in layers if float(between[layer]) > SAME]
    if same:
        found.append(
            f"helpful and harmful directions are nearly one (cosine above {SAME}) at "
            f"{len(same)} of {len(layers)} edited layers: both are the mean state"
        )
    bad = [layer for layer in layers if probes and facts["ccs verdict"][layer] == "unusable"]
    if bad:
        low = min(probes[layer].loss for layer in bad)
        learned = "learned nothing" if low >= DEGENERATE else "cannot be oriented"
        effect = ", and nothing is removed there" if source == "ccs" else ""
        found.append(
            f"the CCS probe {learned} at {len(bad)} of {len(layers)} edited layers "
            f"(loss {low:.3f} at best; a constant probe has 0.20){effect}"
        )
    return found


def nearest_poles(query: Tensor, near: Measured, layer: int, k: int) -> tuple[Tensor, Tensor]:
    """Give help and harm of the ``k`` pairs whose queries are nearest: [queries, width] each.

    query  [queries, width] at the layer; nearness is the cosine there.
    """
    unit, stored = (
        torch.nn.functional.normalize(x.double(), dim=-1) for x in (query, near.query[layer])
    )
    index = (unit @ stored.T).topk(min(k, len(stored)), dim=-1).indices
    return top_direction(near.good[layer][index]), top_direction(near.bad[layer][index])


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
