"""Log-likelihoods of continuations, in the batches lm-evaluation-harness would make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from harness.capability.contexts import Given
from harness.engine.density import forced
from harness.engine.jobs import Job
from harness.engine.model import Model
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering


@dataclass(frozen=True)
class Request:
    """What is read, and the tokens after it that are scored."""

    name: str
    context: Given
    scored: tuple[int, ...]


def likelihoods(
    model: Model,
    requests: Sequence[Request],
    steering: Steering,
    *,
    batch_rows: int,
    advance: Callable[[int], None],
) -> list[tuple[float, bool]]:
    """Give each continuation's log-probability in nats, and whether it is the greedy one.

    Requests that read the same (continuations that differ in their last token only) are
    read once; longest texts first.  advance(n) is told of n requests more that are done.

    Raises NoDensity for a search, and for an edit that draws random numbers of its own.
    """
    groups: dict[tuple[Given, tuple[int, ...]], list[int]] = {}
    for number, request in enumerate(requests):
        groups.setdefault((request.context, request.scored[:-1]), []).append(number)
    members = sorted(groups.values(), key=lambda group: _order(requests[group[0]]))
    first = [requests[group[0]] for group in members]
    jobs = [Job(r.name, r.context, Sampling(max_new_tokens=max(1, len(r.scored)))) for r in first]
    out: dict[int, tuple[float, bool]] = {}
    scored = [r.scored for r in first]
    for batch, logits in forced(model, jobs, scored, steering, batch_rows, whole=True):
        for row, number in enumerate(batch):
            table = logits[row, logits.shape[1] - len(scored[number]) :].log_softmax(-1)
            likeliest = table.argmax(-1)
            for i in members[number]:
                ids = torch.tensor(requests[i].scored, device=table.device)
                total = table.gather(-1, ids.unsqueeze(-1)).squeeze(-1).sum()
                out[i] = (float(total), bool((likeliest == ids).all()))
        advance(sum(len(members[number]) for number in batch))
    return [out[i] for i in range(len(requests))]


def _order(request: Request) -> tuple[int, tuple[int, ...]]:
    ids = request.context.ids + request.scored
    return -len(ids), ids
