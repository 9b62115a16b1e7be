"""Static representation editing: add one fixed vector to hidden states while decoding.

    h <- h + s * v          v points from rejected answers to preferred ones

    direction   v                                                     known as
    mean        mean(h+ - h-)                                         CAA, arXiv 2312.06681
    pca         first component of paired differences                 RepE, arXiv 2310.01405
    probe       weights of a logistic probe                           ITI, arXiv 2306.03341
    regression  weights of a regression of the granted reward on h    "Static RE", the baseline
                                                                      of arXiv 2406.05954
    random      a negative control, number ``draw``

    site        residual stream after a block, output of its feed-forward part, or attention
                heads (the ``heads`` best by a probe's held-out accuracy, over all layers)

    scale       what a strength of 1 means
    norm        the length of the mean difference at the place, whatever the direction, so
                that directions are held against each other at equal length
    absolute    1
    state       the length of the state that is edited
    sigma       the standard deviation of the states along v (ITI's)

The layer and the strength that are not given are chosen on development prompts by the
granted reward of short answers; where no reward is granted, the layer is the one whose
probe is most accurate and the strength is the scale's usual one.

``edit_at="last"`` edits each pass's last position: the prompt's last token, then every
token of the answer, as CAA and ITI do; "after_prompt" leaves the prompt's last token alone.

Deviations from the authors' code: methods/cards/static_editing.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.api import (
    Fitted,
    HiddenEdit,
    Json,
    Kit,
    Lab,
    Method,
    Need,
    PlumblineError,
    Preference,
    Site,
    Steering,
    Step,
    after_prompt,
    at_last,
    at_least,
)
from methods._choosing import Trials, may_try, tuned
from methods._directions import (
    enough,
    mean_difference,
    mean_direction,
    pca_direction,
    probe_direction,
    random_direction,
    regression_direction,
)
from methods._pair_states import Fit, PairStates, read_pairs

Direction = Literal["mean", "pca", "probe", "regression", "random"]
Scale = Literal["norm", "absolute", "state", "sigma"]
Edit = Callable[[Tensor, Step], Tensor]
Place = dict[Site, Tensor]  # one way to edit: which vector is added where

STRENGTHS: dict[Scale, tuple[float, ...]] = {
    "norm": (0.5, 1.0, 2.0, 4.0),
    "absolute": (1.0, 2.0, 4.0, 8.0),
    "state": (0.05, 0.1, 0.2, 0.4),
    "sigma": (1.0, 2.0, 5.0, 15.0),
}
USUAL: dict[Scale, float] = {"norm": 1.0, "absolute": 4.0, "state": 0.1, "sigma": 5.0}
LAYERS = 4  # layers whose strengths are tried: the best by a probe's held-out accuracy


@dataclass(frozen=True)
class StaticEditing(Method):
    """Adds ``strength`` times a fixed direction at one layer, or at some attention heads.

    fit_at          state of an answer's last token, or the mean over its tokens.
    pairs, dev      at most so many pairs are read, and so many development prompts.
    layer, strength None is chosen; see above.  Where no development prompt may be answered, the
                    layer by a probe alone, at the usual strength.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "direction": ("mean", "pca", "probe"),
        "fit_at": ("last", "mean"),
        "strength": STRENGTHS["norm"],
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"strength": 0.0}
    tries: ClassVar[bool] = True

    direction: Direction = "mean"
    site: Literal["resid", "mlp", "heads"] = "resid"
    fit_at: Fit = "mean"
    edit_at: Literal["last", "after_prompt"] = "last"
    scale: Scale = "norm"
    layer: int | None = None
    strength: float | None = None
    heads: int = 48
    pairs: int = 1024
    dev: int = 64
    draw: int = 0

    def __post_init__(self) -> None:
        at_least(self, heads=1, pairs=1, dev=1)
        if self.site == "heads" and self.layer is not None:
            raise PlumblineError(
                "static_editing: heads are chosen over all layers; leave layer out, or set site"
            )

    def fit(self, lab: Lab) -> Fitted:
        """Read the pairs' states, find the directions, choose layer and strength."""
        if self.strength == 0:
            return Fitted()
        states = read_pairs(lab, lab.pairs[: self.pairs], self._sites(lab), self.fit_at)
        enough(len(states.pairs), states.dropped)
        rewards = states.rewards(lab) if self.direction == "regression" else None
        facts: dict[str, Json] = {"pairs": len(states.pairs), "dropped": states.dropped}
        places, ranking = self._places(states, rewards, lab.seed)
        place, strength, chosen = self._chosen(lab, places, states.pairs)
        if self.direction == "random":
            place = at_random(place, lab.seed, self.draw)
        sites: Json = [[site.place, site.index] for site in place]
        return Fitted(
            tensors={str(site): vector for site, vector in place.items()},
            facts=facts | ranking | chosen | {"strength": strength, "sites": sites},
        )

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Add the vectors."""
        if not fitted.tensors:
            return Steering()
        sites = [Site(place, index) for place, index in fitted.facts["sites"]]
        place = {site: fitted.tensors[str(site)].to(kit.model.device) for site in sites}
        return self._steering(place, float(fitted.facts["strength"]))

    def _steering(self, place: Place, strength: float) -> Steering:
        where = at_last if self.edit_at == "last" else after_prompt
        edits = (
            HiddenEdit(site, where(added(strength * vector, self.scale == "state")))
            for site, vector in place.items()
        )
        return Steering(hidden=tuple(edits))

    def _sites(self, lab: Lab) -> list[Site]:
        """Give the places to read: one layer, or all of them."""
        at = {"resid": Site.layer, "mlp": Site.mlp, "heads": Site.heads}[self.site]
        if self.layer is not None:
            return [at(self.layer)]
        config = lab.model.net.config.get_text_config(decoder=True)
        return [at(index) for index in range(config.num_hidden_layers)]

    def _places(
        self, states: PairStates, rewards: Tensor | None, seed: int
    ) -> tuple[list[Place], dict[str, Json]]:
        """Give the ways to edit that are worth trying, the likeliest first, and their ranking."""

        def vector(good: Tensor, bad: Tensor) -> Tensor:
            kind = "mean" if self.direction == "random" else self.direction
            return direction(kind, self.scale, good, bad, rewards, seed)

        sites = list(states.good)
        if self.layer is not None:
            return [{sites[0]: vector(states.good[sites[0]], states.bad[sites[0]])}], {}
        if self.site == "heads":
            best, accuracy = states.best_heads(self.heads)
            place: Place = {}
            for site, head in best:
                good, bad = states.good[site][:, head], states.bad[site][:, head]
                place.setdefault(site, torch.zeros(states.good[site].shape[1:]))
                place[site][head] = vector(good, bad)
            return [place], {"accuracy": accuracy}
        ranked = states.ranked()
        places: list[Place] = [
            {site: vector(states.good[site], states.bad[site])} for site, _ in ranked[:LAYERS]
        ]
        return places, {"accuracy": {str(site): round(share, 4) for site, share in ranked}}

    def _chosen(
        self, lab: Lab, places: Sequence[Place], learnt: Sequence[Preference]
    ) -> tuple[Place, float, dict[str, Json]]:
        """Give place and strength as development prompts prefer them.

        Places are tried at the first strength, the other strengths at the best place.
        """
        usual, *others = _usual_first(self.scale) if self.strength is None else (self.strength,)
        if not may_try(lab) or (len(places) == 1 and not others):
            return places[0], usual, {"warnings": []}
        trials = Trials(lab, tuned(lab, self.dev, learnt))

        def best(some: Sequence[tuple[Place, float]]) -> int:
            return trials.best(
                [
                    (
                        {"sites": ", ".join(map(str, place)), "strength": strength},
                        partial(self._steering, to_device(place, lab), strength),
                    )
                    for place, strength in some
                ]
            )

        settings = [(place, usual) for place in places]
        place, _ = settings[best(settings)]
        further = [(place, strength) for strength in others]
        settings += further
        return *settings[best(further)], trials.facts()


def _usual_first(scale: Scale) -> list[float]:
    """Give the strengths to try, the usual one first."""
    return [USUAL[scale], *(s for s in STRENGTHS[scale] if s != USUAL[scale])]


def direction(
    kind: str, scale: Scale, good: Tensor, bad: Tensor, rewards: Tensor | None, seed: int
) -> Tensor:
    """Give v at the length that ``scale`` asks for: [width], float32.

    good, bad  [pairs, width].
    rewards    [2 pairs], of the preferred answers and then of the rejected ones.
    """
    if kind == "mean":
        along = mean_direction(good, bad)
    elif kind == "pca":
        along = pca_direction(good, bad, seed)
    elif kind == "probe":
        along = probe_direction(good, bad)
    else:
        assert rewards is not None
        along = regression_direction(torch.cat([good, bad]), rewards)
    if scale == "norm":
        along = along * mean_difference(good, bad).norm()
    elif scale == "sigma":
        along = along * (torch.cat([good, bad]).double() @ along).std()
    return along.float()


def at_random(place: Place, seed: int, number: int) -> Place:
    """Turn every vector into a random direction, at its own length."""
    return {
        site: vector.norm() * random_direction(vector.numel(), seed, number).float().view_as(vector)
        for site, vector in place.items()
    }


def added(vector: Tensor, relative: bool) -> Edit:
    """Make the edit that adds a vector, or its multiple by each state's length, in float32.

    vector  [width], or [heads, width] for states [rows, positions, heads, width].
    """

    def edit(hidden: Tensor, _: Step) -> Tensor:
        state = hidden.float()
        size = state.norm(dim=-1, keepdim=True) if relative else 1.0
        return (state + size * vector).to(hidden.dtype)

    return edit


def to_device(place: Place, lab: Lab) -> Place:
    """Move the vectors to where the model is."""
    return {site: vector.to(lab.model.device) for site, vector in place.items()}
