"""How far a run has moved from the base model: exact per step, or a bound, or not known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.conduct import store
from harness.conduct.cell import Cell
from harness.conduct.generating import Answers, conversation
from harness.conduct.questions import Questions
from harness.engine.steering import Steering
from harness.ledger import Ledger
from harness.progress import progress
from harness.records import Json, Score

if TYPE_CHECKING:
    from harness.engine.decoding import Job

STEP = 4  # batches of rows between two writes
EXACT = "exact-per-step"


@dataclass(frozen=True)
class Kind:
    """What the KL column of a row is.

    kind    "exact-per-step", "bound" or "none".
    bound   nats, for "bound".
    reason  in words, for everything but a plain measurement.
    """

    kind: str
    bound: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Json]:
        """Give what stands in spec.json."""
        return {"kind": self.kind, "bound": self.bound, "reason": self.reason}


def kind(cell: Cell, steering: Steering) -> Kind:
    """Say what can be known about a steering's divergence before anything is drawn."""
    questions = cell.questions
    if steering.search is not None:
        return _of_search(questions, steering)
    if not questions.plain:
        count = min(cell.setting.protocol.sections.kl.prompts, len(questions.prompts))
        if not count:
            return Kind("none", reason="answers are not plain samples, and [kl] prompts is 0")
        return Kind(EXACT, reason=f"on temperature-1 samples of their own for {count} prompts")
    return Kind(EXACT)


def _of_search(questions: Questions, steering: Steering) -> Kind:
    from harness.engine.density import search_bound

    assert steering.search is not None
    others = steering.touches - {"search", "noise", "stop"}
    if others:
        return Kind("none", reason="a search over an already steered model has no known bound")
    longest = max(s.max_new_tokens for s in questions.sampling.values())
    bound = search_bound(steering.search, longest)
    if bound is None:
        return Kind("none", reason="the search re-forks by a rule of its own")
    relative = "" if questions.plain else "relative to the candidates' own distribution"
    return Kind("bound", bound, relative)


def measure(cell: Cell, folder: Path, steering: Steering) -> Mapping[str, int]:
    """Write ``scores.kl.jsonl``; give a note where an edit turns out to have no density."""
    from harness.engine.density import NoDensity

    path = folder / "scores.kl.jsonl"
    store.mend(path)
    answers = {r.key: r for r in store.responses(folder)}
    plain = cell.questions.plain
    jobs = [
        job
        for job in (_own(cell, answers) if plain else _fresh(cell, answers))
        if (job.id, job.turn) not in store.scores(folder, "kl")
    ]
    if not jobs:
        return {}
    ledger = Ledger()
    try:
        with cell.setting.metered(ledger), ledger.timed("kl"):
            _measure(cell, path, steering, jobs, answers if plain else None)
    except NoDensity as error:
        path.unlink(missing_ok=True)
        return {f"responses without a KL: {error}": len(answers)}
    store.append(folder / "ledger.jsonl", [ledger.to_json() | {"phase": "kl"}])
    return {}


def _measure(
    cell: Cell, path: Path, steering: Steering, jobs: list[Job], answers: Answers | None
) -> None:
    """Measure along the stored answers, or along samples drawn now where there are none."""
    setting = cell.setting
    moves = bool(steering.touches - {"noise", "stop"})
    with progress(f"{cell.label} on {cell.questions.name}: KL", len(jobs)) as advance:
        for start in range(0, len(jobs), STEP * setting.batch_rows):
            some = jobs[start : start + STEP * setting.batch_rows]
            if not moves:
                values = [0.0] * len(some)  # the base model itself
            elif answers is not None:
                tokens = [answers[job.id, job.turn].tokens for job in some]
                values = setting.kl(some, tokens, steering)
            else:
                drawn = {d.job: d for b in setting.decode(some, steering, cell.seed) for d in b}
                values = setting.kl(some, [drawn[i].tokens for i in range(len(some))], steering)
            scores = [Score(j.id, j.turn, v) for j, v in zip(some, values, strict=True)]
            store.append(path, [score.to_json() for score in scores])
            advance(len(some), "")


def _own(cell: Cell, answers: Answers) -> Iterator[Job]:
    """Ask what was asked: the answers are plain samples and can be measured themselves."""
    from harness.engine.decoding import Job

    prompts = {p.id: p for p in cell.questions.prompts}
    for answer in answers.values():
        chat = conversation(prompts[answer.prompt], answers, answer.turn)
        yield Job(answer.prompt, chat, cell.questions.sampling[answer.prompt], answer.turn)


def _fresh(cell: Cell, answers: Answers) -> Iterator[Job]:
    """Ask the first prompts once more, at temperature 1."""
    from harness.engine.decoding import Job

    count = cell.setting.protocol.sections.kl.prompts
    for prompt in cell.questions.prompts[:count]:
        if (prompt.id, 0) in answers:
            how = cell.questions.sampling[prompt.id]
            plain = replace(how, temperature=1.0, top_k=0, top_p=1.0)
            yield Job(prompt.id, prompt.chat, plain)
