"""Representation editing against the unsteered loop, and the exact ascent against autograd."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from decoding import jobs_of, random_model, run_ours, without_end
from measure import Comparison, compare
from torch import Tensor

from harness.engine.model import Model
from harness.engine.sampling import Sampling
from harness.engine.steering import HiddenEdit, Site, Steering, at_last
from methods._value_head import Ascent, ValueHead
from methods.recontrol import at_draws, moved
from methods.static_editing import added

WIDTH, DEPTH, ROWS, STEPS = 512, 16, 16, 30


def head_of(layers: int) -> ValueHead:
    """Draw a value network as wide as the model."""
    return ValueHead.drawn(WIDTH, WIDTH, layers, torch.Generator().manual_seed(0))


def recontrol(layers: int) -> Steering:
    """Climb 30 steps at every token."""
    change = moved(Ascent.on(head_of(layers), 0.5, STEPS), "none")
    return Steering(hidden=(HiddenEdit(Site.final(), at_draws(change)),))


def static() -> Steering:
    """Add one vector after the eighth block."""
    vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    return Steering(hidden=(HiddenEdit(Site.layer(8), at_last(added(vector, False))),))


def decoding() -> Iterator[Comparison]:
    """Compare whole runs: prompts of 32 tokens, 64 tokens drawn, batch 16."""
    model: Model = without_end(random_model(WIDTH, DEPTH, 512, heads=8))
    jobs = jobs_of(model, ROWS, 32, Sampling(max_new_tokens=64))
    rows = (
        ("RE-CONTROL, 2 layers, n = 30, against unsteered", recontrol(2), 1.2),
        ("RE-CONTROL, 3 layers, n = 30, against unsteered", recontrol(3), 1.35),
        ("static editing against unsteered", static(), 1.1),
    )
    for name, steering, at_most in rows:
        yield compare(
            name,
            lambda steering=steering: run_ours(model, jobs, steering),
            lambda: run_ours(model, jobs),
            1 / at_most,
            note=f"(at most x{at_most:g} the time)",
        )


def by_autograd(head: ValueHead, states: Tensor, weights: bool) -> Tensor:
    """Climb by autograd; ``weights`` builds their gradients too, as the published scheme does."""
    tensors = {k: t.clone().requires_grad_(weights) for k, t in head.tensors().items()}
    climbed = ValueHead.of(tensors)
    u = torch.zeros_like(states)
    with torch.enable_grad():
        for _ in range(STEPS):
            u = u.detach().requires_grad_()
            climbed(states + u).sum().backward()  # type: ignore[no-untyped-call]
            assert u.grad is not None
            u = u.detach() + 0.5 * u.grad
    return u


def ascents() -> Iterator[Comparison]:
    """Compare one token's ascent for 16 rows."""
    states = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    for layers, frozen, published in ((2, 1.8, 2.4), (3, 1.3, 1.9)):
        head = head_of(layers)
        climb = Ascent.on(head, 0.5, STEPS)

        def ours(climb: Ascent = climb) -> None:
            for _ in range(20):
                climb(states)

        for weights, aim in ((False, frozen), (True, published)):

            def theirs(head: ValueHead = head, weights: bool = weights) -> None:
                for _ in range(20):
                    by_autograd(head, states, weights)

            what = "as published" if weights else "frozen weights"
            name = f"ascent, {layers} layers, against autograd, {what}"
            yield compare(name, ours, theirs, aim)


def main() -> None:
    """Print every comparison, with the threads it was made on."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    threads = torch.get_num_threads()
    print(f"{threads} threads, torch {torch.__version__}; medians of 5")
    print(f"{'':<58} {'ours':>12} {'reference':>12}")
    for comparison in chain(ascents(), decoding()):
        print(comparison.line(), flush=True)


if __name__ == "__main__":
    main()
