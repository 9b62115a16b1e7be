"""A value network on one hidden state, and exact gradient ascent on it without autograd.

    2 layers   V(o) = w . relu(z) + b,                       z = W1 o + b1
    3 layers   V(o) = w . relu(y) + b,    y = W2 relu(z) + b2

Gradient, ties at a kink counting as 0:

    dV/do = W1^T a,   a = 1[z>0] * w                         (2 layers)
                      a = 1[z>0] * W2^T (1[y>0] * w)         (3 layers)

n steps  u <- u + alpha dV/do(o + u)  need neither W1 nor W1^T again: with the Gram matrix
G = W1 W1^T, made once,

    S <- S + a_k,   z_{k+1} = z_k + alpha G a_k,   and   u = alpha W1^T S  in the end.

Kong et al. 2024, arXiv 2406.05954, sections on the value function and on test time; the
Gram form is exact algebra, and is held against autograd in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.api import PlumblineError

LAYERS = (2, 3)


@dataclass(frozen=True)
class ValueHead:
    """Weights of V.

    first   [hidden, width], with its bias [hidden].
    second  [hidden, hidden] and its bias, or None for 2 layers.
    out     [hidden], with its bias [].
    """

    first: Tensor
    first_bias: Tensor
    out: Tensor
    out_bias: Tensor
    second: Tensor | None = None
    second_bias: Tensor | None = None

    @classmethod
    def drawn(cls, width: int, hidden: int, layers: int, rng: torch.Generator) -> ValueHead:
        """Draw weights as a linear layer is born: uniform within 1/sqrt(inputs)."""
        if layers not in LAYERS:
            raise PlumblineError(f"a value network has 2 or 3 layers, not {layers}")

        def uniform(*shape: int, inputs: int) -> Tensor:
            drawn: Tensor = (2 * torch.rand(shape, generator=rng) - 1) / inputs**0.5
            return drawn

        deep = layers == 3
        return cls(
            first=uniform(hidden, width, inputs=width),
            first_bias=uniform(hidden, inputs=width),
            second=uniform(hidden, hidden, inputs=hidden) if deep else None,
            second_bias=uniform(hidden, inputs=hidden) if deep else None,
            out=uniform(hidden, inputs=hidden),
            out_bias=uniform(inputs=hidden),
        )

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> ValueHead:
        """Read back what ``tensors`` gave."""
        return cls(**tensors)

    def tensors(self) -> dict[str, Tensor]:
        """Give the weights by name, for storage and for an optimiser."""
        return {name: t for name, t in vars(self).items() if t is not None}

    def to(self, *where: torch.device | torch.dtype) -> ValueHead:
        """Move or cast every weight."""
        moved = self.tensors()
        for place in where:
            moved = {name: t.to(place) for name, t in moved.items()}
        return ValueHead(**moved)

    def scaled(self, factor: float) -> ValueHead:
        """Give ``factor`` times V, by its output layer."""
        scaled = {"out": self.out * factor, "out_bias": self.out_bias * factor}
        return ValueHead(**{**self.tensors(), **scaled})

    def __call__(self, states: Tensor) -> Tensor:
        """V of states [..., width]: [...]."""
        seen = (states @ self.first.T + self.first_bias).relu()
        if self.second is not None and self.second_bias is not None:
            seen = (seen @ self.second.T + self.second_bias).relu()
        return seen @ self.out + self.out_bias

    def gradient(self, states: Tensor) -> Tensor:
        """Give dV/do at states [..., width], in closed form."""
        return _active(self, states @ self.first.T + self.first_bias) @ self.first


@dataclass(frozen=True)
class Ascent:
    """n steps of size alpha uphill on V; the Gram matrix is made once.

    Call with states [rows, width]; gives the displacement u [rows, width] in float32.
    """

    head: ValueHead
    gram: Tensor
    alpha: float
    n: int

    @classmethod
    def on(cls, head: ValueHead, alpha: float, n: int) -> Ascent:
        """Prepare the climb."""
        head = head.to(torch.float32)
        return cls(head, head.first @ head.first.T, alpha, n)

    def __call__(self, states: Tensor) -> Tensor:
        """Climb from each state on its own; rows do not meet."""
        z = torch.addmm(self.head.first_bias, states.float(), self.head.first.T)
        total = torch.zeros_like(z)
        for step in range(self.n):
            a = _active(self.head, z)
            total += a
            if step + 1 < self.n:
                z.addmm_(a, self.gram, alpha=self.alpha)
        return self.alpha * (total @ self.head.first)


def _active(head: ValueHead, z: Tensor) -> Tensor:
    """Give a, the gradient with respect to z: [rows, hidden]."""
    if head.second is None or head.second_bias is None:
        return (z > 0).to(z.dtype) * head.out
    y = z.relu() @ head.second.T + head.second_bias
    return (z > 0).to(z.dtype) * (((y > 0).to(z.dtype) * head.out) @ head.second)


def ascend_in_place(head: ValueHead, states: Tensor, alpha: float, n: int) -> Tensor:
    """Climb as the published code does: each step is added to the state, in the head's precision.

    states  [rows, width]; gives the edited states in their own precision.
    """
    edited = states.to(head.first.dtype)
    for _ in range(n):
        edited = edited + alpha * head.gradient(edited)
    return edited.to(states.dtype)
