"""AlignEZ v2: several directions per layer from the differences, chosen anew for each query.

Theta_l     right singular vectors of the rows h_i+ - h_i-, enough for 90 % of their energy
Theta_l(q)  those with cos(phi_l(q), theta) <= 0: what the query does not yet express
layers(q)   the n with the largest  sqrt(sum over Theta_l(q) of cos(phi_l(q), theta)^2)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.api import Json, PlumblineError
from methods._alignez_directions import alike, difference_basis, missing
from methods._alignez_layers import alignment, top_layers
from methods._alignez_states import Measured


@dataclass(frozen=True)
class Subspaces:
    """What v2 learned about a trait.

    basis  [layers, directions, width]; rows of zeros where a layer has fewer.
    """

    basis: Tensor
    facts: Mapping[str, Json]
    warnings: list[str] = field(default_factory=list)


def subspaces(
    measured: Measured, similar: float, energy: float, rank: int | None, *, fix_signs: bool
) -> Subspaces:
    """Find every layer's directions from the pairs that differ enough there.

    Raises PlumblineError where no layer has two such pairs.
    """
    found, kept = [], []
    for good, bad in zip(measured.good, measured.bad, strict=True):
        rows = (good - bad)[~alike(good, bad, similar)]
        kept.append(len(rows))
        enough = len(rows) > 1
        found.append(
            difference_basis(rows, energy, rank, fix_signs=fix_signs) if enough else rows[:0]
        )
    if not any(map(len, found)):
        raise PlumblineError(
            f"alignez: at no layer do two pairs differ (cosine at most {similar}); of "
            f"{measured.good.shape[1]} pairs {max(kept)} did at best"
        )
    basis = torch.zeros(len(found), max(map(len, found)), measured.good.shape[-1])
    for layer, rows in enumerate(found):
        basis[layer, : len(rows)] = rows
    facts = {"pairs that differ": kept, "directions": [len(rows) for rows in found]}
    bare = sum(not len(rows) for rows in found)
    warnings = [
        f"{bare} of {len(found)} layers have fewer than two pairs with a cosine of at most "
        f"{similar}, so no direction"
    ]
    return Subspaces(basis, facts, warnings if bare else [])


@dataclass(frozen=True)
class Choice:
    """How directions and layers are chosen for a query.

    which   which directions are kept, by their cosine with the query; see ``missing``.
    top     layers edited for each query.
    fixed   layers edited for every query instead; none for the rule.
    """

    which: str = "missing"
    top: int = 5
    fixed: Sequence[int] = ()

    def __call__(self, basis: Tensor, query: Tensor) -> Tensor:
        """Say which directions are used: [layers, queries, width] -> [queries, layers, directions].

        A layer where nothing is kept is never edited.
        """
        unit = torch.nn.functional.normalize(query.double(), dim=-1)
        cosines = (unit @ basis.double().mT).transpose(0, 1)
        kept = missing(cosines, self.which) & basis.any(-1)
        if self.fixed:
            layers = torch.zeros(kept.shape[:2], dtype=torch.bool)
            layers[:, list(self.fixed)] = True
        else:
            layers = top_layers(alignment(cosines, kept), self.top)
        return kept & layers[..., None]
