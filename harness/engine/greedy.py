"""Writing on the side: short texts that a method lets a model write before it answers.

Greedy, so no luck is drawn and none is moved; through the same loop, so that batches, ends,
stop strings and memory are what they are for answers, and every token is counted on the
model's own ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.chat import Chat
from harness.engine.decoding import decode
from harness.engine.jobs import Job
from harness.engine.model import Model
from harness.engine.sampling import Sampling


def greedily(
    model: Model, requests: Sequence[Chat], tokens: int, *, batch_rows: int = 64
) -> list[str | None]:
    """Let the bare model reply to each request; equal requests are replied to once.

    tokens  what a reply may take.

    Gives None for a reply that is not over by then, and where a request leaves the model no
    room for one.
    """
    how = Sampling(temperature=0.0, max_new_tokens=tokens)
    distinct = list(dict.fromkeys(requests))
    fitting = [r for r in distinct if len(model.encode(r)) + tokens <= model.context]
    jobs = [Job(f"aside {number}", request, how) for number, request in enumerate(fitting)]
    found: dict[Chat, str] = {}
    for batch in decode(model, jobs, batch_rows=batch_rows):
        found |= {fitting[d.job]: d.text for d in batch if d.stop != "length"}
    return [found.get(request) for request in requests]
