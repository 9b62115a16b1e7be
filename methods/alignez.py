"""AlignEZ: steer a model along directions found in preference pairs that it wrote itself.

Adila, Shin, Zhang, Sala, arXiv 2406.03642: "Is Free Self-Alignment Possible?" (2024, here
v1) and "Alignment, Simplified: Steering LLMs with Self-Generated Preferences" (2025, v2).
Two different methods under one name, and a third between them:

    v1      help_l, harm_l      first right singular vectors of the helpful and of the harmful
                                states, or harm_l a CCS probe's weights (directions = ccs)
            x' = x  - <x, harm> / <harm, harm> harm         neutralise, then
            x" = x' + <x', help> / <help, help> help        boost
            layers              before the gap in the sorted losses of CCS probes
    v1_knn  as v1 by SVD, on the ``neighbours`` pairs whose queries are nearest to this one
    v2      Theta_l             right singular vectors of the differences h+ - h-, 90 % of energy
            Theta_l(q)          those with cos(phi_l(q), theta) <= 0
            x' = x + strength * sum over Theta_l(q) of tanh(<x, theta>) theta
            layers              the ``top`` with the largest share of phi_l(q) in Theta_l(q)

phi_l is the output of layer l's feed-forward part (or the residual stream) at the last
token.  Edited: the position that draws a token, at each step.  Several traits, with
weights w: x + strength * sum_t w_t change_t(x), every change taken at the unedited x.

The pairs are written for the unlabelled test queries themselves (``queries = test``:
tables mark the row) or for the questions of the protocol's training pairs (``heldout``).

Deviations: ``sign_fix`` turns every direction by the mean difference, since v2's filter
depends on signs that SVD leaves open; ``compat = as_released`` does what the published
copy of the code does (cards/alignez.md lists it).  ``v2_direction = toward`` is ours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.api import (
    Fitted,
    Json,
    Kit,
    Lab,
    Method,
    Need,
    PlumblineError,
    Prompt,
    Steering,
    at_least,
)
from methods._alignez_ccs import Centring
from methods._alignez_edits import Compat, Squash, Towards, squashed
from methods._alignez_layers import named_layers
from methods._alignez_pairs import Stages, Trait, self_generated
from methods._alignez_states import At, Measured, Where, layer_count, place, relative_size
from methods._alignez_steering import by_nearest, by_poles, by_subspaces
from methods._alignez_v1 import Probing, Source, poles
from methods._alignez_v2 import Choice, subspaces

V2_ONLY = frozenset(
    {"top", "similar", "energy", "rank", "query_filter", "squash", "v2_direction", "sign_fix"}
)


@dataclass(frozen=True)
class AlignEZ(Method):
    """Edits hidden states along directions from self-generated preference pairs.

    generation, per_query, count   how pairs are written, for how many queries at most.
    traits, weights   names, or "wanted/unwanted" adjectives; weights are equal where none given.
    strength          multiplies the change; the papers have 1.
    layers            edited for every query; none given: the variant's own rule.
    top, similar, energy, rank, query_filter, squash, v2_direction, sign_fix   v2 only.
    neighbours        v1_knn only.
    ccs_features, restarts, steps   the CCS probes, which also rank v1's layers.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"queries", "words"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "variant": ("v1", "v1_knn", "v2"),
        "site": ("mlp_out", "resid_post"),
        "v2_direction": ("as_stated", "toward"),
        "strength": (0.5, 1.0, 2.0, 4.0),
        "top": (1, 3, 5, 10),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"strength": 0.0}

    variant: Literal["v1", "v1_knn", "v2"] = "v2"
    directions: Source = "svd"
    site: Where = "mlp_out"
    at: At = "last"
    queries: Literal["test", "heldout"] = "test"
    generation: Stages = "two_stage"
    traits: tuple[str, ...] = ("general",)
    weights: tuple[float, ...] = ()
    count: int = 512
    per_query: int = 1
    strength: float = 1.0
    layers: tuple[int, ...] = ()
    top: int = 5
    similar: float = 0.8
    energy: float = 0.9
    rank: int | None = None
    query_filter: Literal["missing", "expressed", "all"] = "missing"
    squash: Squash = "tanh"
    v2_direction: Towards = "as_stated"
    sign_fix: Literal["mean_difference", "none"] = "mean_difference"
    neighbours: int = 32
    ccs_features: Centring = "raw"
    restarts: int = 10
    steps: int = 1000
    compat: Compat = "paper"

    def __post_init__(self) -> None:
        at_least(self, count=1, per_query=1, top=1, neighbours=1, restarts=1, steps=1)
        if self.rank is not None and self.rank < 1:
            raise PlumblineError(f"alignez.rank is {self.rank}; it must be 1 or more, or none")
        if not 0 < self.energy <= 1:
            raise PlumblineError(f"alignez.energy is {self.energy}; it must lie in (0, 1]")
        if not -1 <= self.similar <= 1:
            raise PlumblineError(f"alignez.similar is {self.similar}; a cosine lies in [-1, 1]")
        if self.directions == "ccs" and self.variant != "v1":
            raise PlumblineError(
                f"alignez.directions=ccs belongs to variant v1; variant is {self.variant}"
            )
        if not self.traits or len(set(self.traits)) < len(self.traits):
            raise PlumblineError("alignez.traits must name one trait at least, and none twice")
        if self.weights and len(self.weights) != len(self.traits):
            raise PlumblineError(
                f"alignez.weights has {len(self.weights)} numbers for {len(self.traits)} traits"
            )
        for trait in self.traits:
            Trait.of(trait)

    def unused(self) -> frozenset[str]:
        """Name v2's fields in the other variants, and v1_knn's."""
        other = frozenset[str]() if self.variant == "v2" else V2_ONLY
        return other | (frozenset() if self.variant == "v1_knn" else {"neighbours"})

    # ------------------------------------------------------------------ fit

    def fit(self, lab: Lab) -> Fitted:
        """Write pairs for each trait, measure their states, find directions and layers."""
        queries = self._queries(lab)
        count = layer_count(lab)
        fixed = named_layers(self.layers, count)
        sites = [place(self.site, layer) for layer in range(count)]
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Json] = {"queries": len(queries), "traits": {}, "warnings": []}
        for number, name in enumerate(self.traits):
            pairs = self_generated(lab, queries, Trait.of(name), self.generation, self.per_query)
            measured = Measured.of(lab, pairs, sites, self.at)
            learned, told, warnings = self._learn(measured, fixed, lab.seed + number)
            tensors |= {f"{number}.{key}": tensor for key, tensor in learned.items()}
            cosines = {"mean cosine of a pair": measured.cosines}
            facts["traits"][name] = {"written": dict(pairs.facts), **cosines, **told}
            facts["warnings"] += [f"{name}: {text}" for text in warnings]
        return Fitted(tensors, facts)

    def _queries(self, lab: Lab) -> list[Prompt]:
        if self.queries == "test":
            found = list(lab.queries)
        else:
            found = list({p.prompt: Prompt(p.id, p.prompt) for p in lab.pairs}.values())
        if not found:
            source = "test prompts" if self.queries == "test" else "training pairs"
            raise PlumblineError(f"alignez.queries={self.queries}: there are no {source}")
        if len(found) > self.count:
            chosen = random.Random(lab.seed).sample(range(len(found)), self.count)
            found = [found[i] for i in sorted(chosen)]
        return found

    def _learn(
        self, measured: Measured, fixed: list[int], seed: int
    ) -> tuple[dict[str, Tensor], Mapping[str, Json], list[str]]:
        if self.variant == "v2":
            found = subspaces(
                measured,
                self.similar,
                self.energy,
                self.rank,
                fix_signs=self.sign_fix != "none" and self.compat == "paper",
            )
            used = self._choice(fixed)(found.basis, measured.query)
            told = (
                dict(found.facts)
                | _chosen(used)
                | {"change over state": self._sizes(measured, found.basis, used)}
            )
            return {"basis": found.basis}, told, found.warnings
        probing = Probing(seed, self.ccs_features, self.restarts, self.steps)
        two = poles(measured, self.directions, probing, fixed, self.compat)
        layers = torch.tensor(two.layers)
        if self.variant == "v1":
            return {"help": two.help, "harm": two.harm, "layers": layers}, two.facts, two.warnings
        near = {
            name: getattr(measured, name)[layers].contiguous() for name in ("good", "bad", "query")
        }
        return near | {"layers": layers}, two.facts, two.warnings

    def _sizes(self, measured: Measured, basis: Tensor, used: Tensor) -> list[float]:
        """Give how large v2's change of a query's state is, relative to the state."""
        coefficients = self.strength * used.transpose(0, 1).float()
        change = torch.stack(
            [
                squashed(x, rows, c, self.squash, self.v2_direction)
                for x, rows, c in zip(measured.query, basis, coefficients, strict=True)
            ]
        )
        return relative_size(change, measured.query)

    # ---------------------------------------------------------------- steer

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Edit the position that draws a token, at the layers of each trait."""
        learned = [_of_trait(fitted.tensors, number) for number in range(len(self.traits))]
        equal = (1 / len(self.traits),) * len(self.traits)
        weights = [self.strength * weight for weight in self.weights or equal]
        if self.variant == "v1":
            return by_poles(kit, self.site, learned, weights, self.compat)
        if self.variant == "v1_knn":
            return by_nearest(kit, self.site, learned, weights, self.neighbours, self.compat)
        choice = self._choice(named_layers(self.layers, layer_count(kit)))
        return by_subspaces(
            kit, self.site, learned, weights, choice, self.squash, self.v2_direction
        )

    def _choice(self, fixed: Sequence[int]) -> Choice:
        return Choice(self.query_filter, self.top, fixed)


def _of_trait(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    prefix = f"{number}."
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _chosen(used: Tensor) -> dict[str, Json]:
    """Sum up what v2 chose for the queries it was fitted on: [queries, layers, directions]."""
    edited = used.any(-1)
    return {
        "queries that edit a layer": edited.sum(0).tolist(),
        "directions kept": round(float(used.sum() / edited.sum().clamp_min(1)), 2),
    }
