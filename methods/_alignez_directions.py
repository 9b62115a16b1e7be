"""Directions by singular value decomposition: one per polarity (v1), or of the differences (v2).

    v1   help = first right singular vector of [h_1+ ... h_K+]^T, harm likewise
    v2   D = rows h_i+ - h_i-, not centred;  D = U S V^T;
         theta_1 .. theta_k, k smallest with sum_{j<=k} s_j^2 / sum_j s_j^2 >= 0.90

Computed in float64 on the CPU, so that two machines agree; signs are fixed here, once.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-6  # a pair at the limit is kept, whichever way its cosine was rounded


def alike(good: Tensor, bad: Tensor, limit: float) -> Tensor:
    """Say which pairs are too similar to tell anything: cosine above ``limit``.

    good, bad  [pairs, width].  Returns [pairs]; equal states always are.
    """
    cosine = torch.cosine_similarity(good.double(), bad.double(), dim=-1)
    return (cosine > limit + ROUNDING) | (good == bad).all(-1)


def top_direction(states: Tensor) -> Tensor:
    """Give the first right singular vector of uncentred states: [..., K, width] -> [..., width].

    By the K x K Gram matrix, which is the smaller one; a stack of zeros gives zeros.
    Its sign is arbitrary: v1's projections do not depend on it.
    """
    rows = states.double()
    _, vectors = torch.linalg.eigh(rows @ rows.mT)
    along = (rows.mT @ vectors[..., -1:]).squeeze(-1)
    length = along.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, along / length.clamp_min(1e-300), 0.0).float()


def difference_basis(
    differences: Tensor, energy: float, rank: int | None = None, *, fix_signs: bool = True
) -> Tensor:
    """Give the right singular vectors that hold ``energy`` of the differences, or ``rank`` of them.

    differences  [pairs, width].  Returns orthonormal rows [k, width].
    """
    rows = differences.double()
    _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
    share = values.square().cumsum(0) / values.square().sum()
    enough = int((share < energy - 1e-12).sum()) + 1
    real = int((values > values[0] * 1e-7).sum())
    basis = vectors[: min(enough if rank is None else rank, real)]
    return (canonical(basis, rows) if fix_signs else basis).float()


def canonical(basis: Tensor, differences: Tensor) -> Tensor:
    """Turn every direction so that the mean difference has a positive coordinate along it.

    A tie is decided by the direction's own largest coordinate, made positive.
    """
    basis = basis.double()
    mean = basis @ differences.double().mean(0)
    largest = basis.gather(1, basis.abs().argmax(1, keepdim=True)).squeeze(1)
    tie = mean.abs() <= 1e-12 * differences.double().norm(dim=-1).max()
    return basis * torch.where(tie, largest, mean).sign()[:, None]


def missing(cosines: Tensor, which: str) -> Tensor:
    """Say which directions are kept for a query, by its cosine with them.

    which  "missing"    cosine at most 0: what the query does not yet express (the papers' rule).
           "expressed"  cosine above 0, as some code keeps for harmlessness.
           "all"        no filter, as for three traits at once.
    """
    if which == "all":
        return torch.ones_like(cosines, dtype=torch.bool)
    return cosines <= 0 if which == "missing" else cosines > 0


def mean_share(states: Tensor) -> float:
    """Give the share of a stack's energy that its mean holds: the more, the less SVD sees."""
    rows = states.double()
    total = rows.square().sum()
    return float(len(rows) * rows.mean(0).square().sum() / total) if total > 0 else 0.0
