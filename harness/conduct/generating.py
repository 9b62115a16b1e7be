"""Let a steered model answer a benchmark, turn by turn, into a run's folder."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.chat import Chat
from harness.conduct import store
from harness.conduct.cell import Cell
from harness.conduct.setting import Setting
from harness.engine.steering import Steering
from harness.ledger import Ledger, peak_memory
from harness.progress import progress
from harness.records import Json, Prompt, Response

if TYPE_CHECKING:
    from harness.engine.decoding import Decoded, Job

Answers = dict[tuple[str, int], Response]
TOO_LONG = "turns that no longer fit the model's context (left out)"
AFTER_EDITS = "prompts that no longer fit the model's context once the method has edited them"
AS_THEY_ARE = "turns whose prompt the method's edits left as it was"


def generate(cell: Cell, folder: Path, steering: Steering) -> Counter[str]:
    """Answer whatever is not answered yet; give a count of what could not be asked.

    Each finished batch is committed at once.  A later turn is asked with the
    model's own earlier answers before it; methods see one chat at a time.
    """
    setting, prompts = cell.setting, cell.questions.prompts
    answers = store.resume(folder)
    notes: Counter[str] = Counter()
    total = sum(1 + len(p.turns) for p in prompts)
    if len(answers) < total:
        setting.warm_up([p.chat for p in prompts])
    with progress(f"{cell.label} on {cell.questions.name}", total) as advance:
        advance(len(answers), "")
        for turn in range(1 + max(len(p.turns) for p in prompts)):
            ledger, start = Ledger(), time.perf_counter()
            with setting.metered(ledger):  # a prompt edit may let a model write
                jobs = _jobs(cell, steering, answers, turn, notes)
                for batch in setting.decode(jobs, steering, cell.seed, cell.search_sampling):
                    ledger.seconds["decode"] = time.perf_counter() - start
                    ledger.peak = peak_memory()
                    answered = [_response(jobs[d.job], d) for d in batch]
                    pool = [line for d in batch for line in _pool(setting, jobs[d.job], d)]
                    store.commit(folder, answered, pool, ledger.to_json() | {"phase": "decode"})
                    answers |= {r.key: r for r in answered}
                    advance(len(batch), "")
                    ledger.tokens.clear()
                    ledger.forwards.clear()
                    start = time.perf_counter()
    return notes


def conversation(prompt: Prompt, answers: Mapping[tuple[str, int], Response], turn: int) -> Chat:
    """Give the chat as it stands when ``turn`` is asked; its earlier answers must exist."""
    chat = prompt.chat
    for earlier in range(turn):
        chat = chat.assistant(answers[prompt.id, earlier].text).user(prompt.turns[earlier])
    return chat


def _jobs(
    cell: Cell, steering: Steering, answers: Answers, turn: int, notes: Counter[str]
) -> list[Job]:
    """Say what is still to be asked in this turn and fits the model."""
    from harness.engine.decoding import Job

    asked = []
    for prompt in cell.questions.prompts:
        if turn > len(prompt.turns):
            continue
        if turn and (prompt.id, turn - 1) not in answers:
            notes[TOO_LONG] += 1  # its earlier turn was left out
            continue
        chat = conversation(prompt, answers, turn)
        asked.append(Job(prompt.id, chat, cell.questions.sampling[prompt.id], turn))
    if not turn and not steering.prompt:
        # The prompts as they are were measured when they were read.
        return [job for job in asked if (job.id, turn) not in answers]
    # All of them, those answered before a resumed run was killed too: notes are of the whole.
    edited = steering.prompted([job.chat for job in asked])
    kept = []
    for job, chat in zip(asked, edited, strict=True):
        if not cell.setting.room(chat, job.sampling):
            notes[AFTER_EDITS if cell.setting.room(job.chat, job.sampling) else TOO_LONG] += 1
            continue
        if steering.prompt and chat == job.chat:
            notes[AS_THEY_ARE] += 1
        if (job.id, turn) not in answers:
            kept.append(job)
    return kept


def _response(job: Job, decoded: Decoded) -> Response:
    return Response(
        job.id,
        job.turn,
        decoded.text,
        decoded.tokens,
        decoded.stop,
        decoded.cost,
        max(1, len(decoded.pool)),
    )


def _pool(setting: Setting, job: Job, decoded: Decoded) -> Sequence[Mapping[str, Json]]:
    """Keep every candidate of a best-of-N, with the planted truth where there is one."""
    lines = []
    for number, candidate in enumerate(decoded.pool):
        line: dict[str, Json] = {
            "prompt": job.id,
            "turn": job.turn,
            "candidate": number,
            "text": candidate.text,
            "score": candidate.score if math.isfinite(candidate.score) else None,
        }
        if setting.gold is not None:
            line["gold"] = setting.gold(job.chat, candidate.text)["gold"]
        lines.append(line)
    return lines
