"""What is to be answered, what came of it, and how the work is cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from harness.chat import Chat
from harness.engine.model import Model
from harness.engine.rows import Rows
from harness.engine.sampling import Sampling
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from harness.records import Stop


@dataclass(frozen=True)
class Job:
    """One thing to answer: a prompt's conversation at one turn, and how to sample."""

    id: str
    chat: Chat
    sampling: Sampling
    turn: int = 0


@dataclass(frozen=True)
class Candidate:
    """One whole response of a search, and what the search thought of it."""

    text: str
    tokens: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class Decoded:
    """The answer to ``jobs[job]``.

    cost  tokens pushed through the policy for it, all candidates together.
    pool  every candidate, where whole responses were searched (best-of-N).
    """

    job: int
    text: str
    tokens: tuple[int, ...]
    stop: Stop
    cost: dict[str, int] = field(default_factory=dict)
    pool: tuple[Candidate, ...] = ()


def encode_jobs(model: Model, jobs: Sequence[Job], steering: Steering) -> list[list[int]]:
    """Apply the prompt edits and encode; raises PlumblineError where the budget does not fit."""
    chats = steering.prompted([job.chat for job in jobs])
    ids_of = {chat: model.encode(chat) for chat in dict.fromkeys(chats)}
    encoded = [ids_of[chat] for chat in chats]
    for job, ids in zip(jobs, encoded, strict=True):
        if len(ids) + job.sampling.max_new_tokens > model.context:
            raise PlumblineError(
                f"prompt {job.id}: {len(ids)} tokens and a budget of {job.sampling.max_new_tokens} "
                f"do not fit the model's context of {model.context}"
            )
        if not ids:
            raise PlumblineError(f"prompt {job.id} is empty after the chat template")
    return encoded


def batches(
    jobs: Sequence[Job], encoded: Sequence[Sequence[int]], steering: Steering, batch_rows: int
) -> list[list[int]]:
    """Group jobs that sample alike, longest first, so that memory runs out early or never."""
    size = max(1, batch_rows // (steering.search.width if steering.search else 1))
    groups: dict[Sampling, list[int]] = {}
    for number, job in enumerate(jobs):
        groups.setdefault(job.sampling, []).append(number)
    out = []
    for members in groups.values():
        members.sort(key=lambda i: -len(encoded[i]))
        out += [members[i : i + size] for i in range(0, len(members), size)]
    return out


def halved(jobs: Sequence[Job], batch: list[int], failed: list[int]) -> list[list[int]]:
    """Cut a batch to half the size of the one that did not fit."""
    size = len(failed) // 2
    if size == 0:
        raise PlumblineError(
            f"out of memory with one prompt ({jobs[failed[0]].id}) in the batch; "
            "use a smaller model, a shorter budget or fewer candidates"
        )
    return [batch[i : i + size] for i in range(0, len(batch), size)]


def candidate_sampling(
    asked: Sampling, search: Search | None, candidates: Sampling | None
) -> Sampling:
    """Say how a search draws its candidates: as asked, but never greedily unless told to."""
    if search is None or not search.chooses:
        return asked
    if candidates is not None:
        return replace(candidates, max_new_tokens=asked.max_new_tokens)
    return replace(asked, temperature=1.0) if asked.temperature == 0 else asked


def pooled(
    rows: Rows, tokens: Sequence[Sequence[int]], texts: Sequence[str], scores: Tensor
) -> dict[int, tuple[Candidate, ...]]:
    """Give each prompt's candidates, by their number."""
    pools: dict[int, list[tuple[int, Candidate]]] = {}
    for i, (ids, text, score) in enumerate(zip(tokens, texts, scores.tolist(), strict=True)):
        entry = (int(rows.slot[i]), Candidate(text, tuple(ids), score))
        pools.setdefault(int(rows.origin[i]), []).append(entry)
    return {p: tuple(c for _, c in sorted(found, key=lambda e: e[0])) for p, found in pools.items()}


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on a GPU or on the CPU."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "out of memory" in words or "can't allocate memory" in words or "not enough memory" in words
    )
