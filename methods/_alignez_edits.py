"""AlignEZ's edits of a hidden state, in the papers' own two forms.

    v1   x' = x  - <x, harm> / <harm, harm> harm          neutralise, then
         x" = x' + <x', help> / <help, help> help         boost
    v2   x' = x + sum_j c_j s(<x, theta_j>) theta_j       s = tanh, or ReLU with c = -1

Every function takes states [..., width] and returns states or changes of the same
shape.  Computed in float32: half-precision dot products over thousands of
coordinates overflow.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Compat = Literal["paper", "as_released"]
Squash = Literal["tanh", "relu"]
Towards = Literal["as_stated", "toward"]


def neutralised(x: Tensor, harm: Tensor, compat: Compat = "paper") -> Tensor:
    """Take out of ``x`` what lies along ``harm``; a zero direction takes nothing.

    harm    [width], or anything that broadcasts against ``x``; of any length but
            "as_released", which divides by |harm| once and so is right for unit
            directions only.
    """
    squared = harm.square().sum(-1, keepdim=True)
    divisor = squared if compat == "paper" else squared.sqrt()
    along = (x * harm).sum(-1, keepdim=True) / torch.where(divisor > 0, divisor, 1.0)
    return x - along * harm


def boosted(x: Tensor, help: Tensor) -> Tensor:
    """Double what lies along ``help``, whatever its length and sign."""
    squared = help.square().sum(-1, keepdim=True)
    along = (x * help).sum(-1, keepdim=True) / torch.where(squared > 0, squared, 1.0)
    return x + along * help


def projected(x: Tensor, harm: Tensor, help: Tensor, compat: Compat = "paper") -> Tensor:
    """Give the change that v1 makes: neutralise first, then boost."""
    return boosted(neutralised(x, harm, compat), help) - x


def squashed(
    x: Tensor,
    basis: Tensor,
    coefficients: Tensor,
    squash: Squash = "tanh",
    towards: Towards = "as_stated",
) -> Tensor:
    """Give the change that v2 makes along orthonormal directions.

    basis         [directions, width].
    coefficients  [..., directions] strength times trait weight; 0 where a direction
                  is filtered out.
    towards       "as_stated" grows each coordinate as it is; "toward" pushes along
                  +theta whatever the coordinate's sign (ours, not the authors').

    For orthonormal directions this is the papers' loop, in any order.
    """
    along = x @ basis.T
    if towards == "toward":
        along = along.abs()
    grown = along.tanh() if squash == "tanh" else along.relu()
    return (coefficients * grown) @ basis
