"""Score stored answers; only what has no score yet is scored, nothing is generated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.conduct import plugins, store
from harness.conduct.cell import Cell
from harness.conduct.code import code_digest
from harness.conduct.generating import conversation
from harness.conduct.judges import Reading, judge_reading
from harness.conduct.setting import Setting
from harness.contracts.scorer import Answered, Scorer
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.progress import progress
from harness.records import Json, Prompt, Score

CHUNK = 256  # responses between two writes of a score file
SAME = "identical to the answer it is compared with, so a tie by definition; nobody was asked"


def score(cell: Cell, folder: Path, reference: Path | None) -> Mapping[str, int]:
    """Bring every scorer's file of a run up to date; give a count of what has no score.

    reference  the unsteered run's folder; None where this run is the unsteered one.
    """
    what = f"{cell.label} on {cell.questions.name}"
    at_work = readings(cell, store.Store.of(folder))
    return bring(cell.setting, what, folder, at_work, cell.questions.prompts, reference)


def bring(
    setting: Setting,
    what: str,
    folder: Path,
    at_work: Sequence[Reading],
    asked: Sequence[Prompt],
    reference: Path | None,
) -> Mapping[str, int]:
    """Score with these scorers whatever of a run they have not scored.

    what  the run, as the progress line names it.
    """
    prompts = {p.id: p for p in asked}
    answers = {r.key: r for r in store.responses(folder)}
    answered = [
        Answered(prompts[r.prompt], conversation(prompts[r.prompt], answers, r.turn), r)
        for r in answers.values()
    ]
    notes: Counter[str] = Counter()
    _settle(folder, at_work)
    for reading in at_work:
        have = _standing(folder, reading)
        todo = [a for a in answered if a.key not in have]
        against: Mapping[tuple[str, int], str] = {}
        if reading.scorer.against:
            against = _texts(prompts, reference or folder, reading.against)
            missing = [a for a in todo if a.key not in against]
            if missing:
                notes[f"answers without {reading.against} to compare with"] += len(missing)
            todo = [a for a in todo if a.key in against]
        if todo:
            _score(setting, f"{what}: {reading.column}", folder, reading, todo, against)
        if reading.kept is not None:
            notes.update({f"{reading.column}: {said}": 1 for said in reading.kept.notes})
    return notes


def _standing(folder: Path, reading: Reading) -> set[tuple[str, int]]:
    """Name what needs no new score: a question a judge never answered is put to it again."""
    scores = store.scores(folder, reading.column).values()
    return {s.key for s in scores if reading.kept is None or s.outcome != "failed"}


def readings(cell: Cell, results: store.Store) -> list[Reading]:
    """Give the scorers that can run here: the benchmark's metrics, then the protocol's judges."""
    setting, benchmark = cell.setting, cell.questions.benchmark
    judging = {
        name: how
        for name, how in setting.protocol.sections.judging.items()
        if how.benchmarks is None or cell.questions.name in how.benchmarks
    }
    found = []
    judges = {one.name for one in plugins.judges()}
    for name in benchmark.scorers:
        if name in judges or name in judging:
            continue
        scorer = plugins.scorer(name, setting.instruments)
        if scorer.skip() is None:
            found.append(Reading(name, scorer, _identity(scorer)))
    for name, how in judging.items():
        found.append(judge_reading(setting, results, name, how, setting.instruments))
    return found


def unmeasured(cell: Cell) -> dict[str, str]:
    """Give the metrics that cannot run under the protocol, and why."""
    out = {}
    judges = {one.name for one in plugins.judges()}
    for name in cell.questions.benchmark.scorers:
        if name not in judges:
            reason = plugins.scorer(name, cell.setting.instruments).skip()
            if reason is not None:
                out[name] = reason
    return out


def _identity(scorer: Scorer) -> str:
    return code_digest(plugins.source_file(type(scorer)))


def _settle(folder: Path, at_work: Sequence[Reading]) -> None:
    """Cut torn lines; drop scores that another version of a scorer made."""
    sidecar = folder / "scorers.json"
    known: dict[str, Json] = store.read_json(sidecar) if sidecar.exists() else {}
    now = known | {reading.column: reading.identity for reading in at_work}
    for reading in at_work:
        path = folder / f"scores.{reading.column}.jsonl"
        store.mend(path)
        if known.get(reading.column) != reading.identity:
            path.unlink(missing_ok=True)
    if now != known:
        store.write_json(sidecar, now)


def _texts(
    prompts: Mapping[str, Prompt], reference: Path, against: str
) -> dict[tuple[str, int], str]:
    if against == "unsteered":
        return {r.key: r.text for r in store.responses(reference)}
    return {
        (prompt.id, turn): text
        for prompt in prompts.values()
        for turn, text in enumerate((prompt.reference, *prompt.further))
        if text is not None
    }


def _score(
    setting: Setting,
    what: str,
    folder: Path,
    reading: Reading,
    todo: Sequence[Answered],
    against: Mapping[tuple[str, int], str],
) -> None:
    before = store.scores(folder, reading.column)
    with progress(what, len(todo)) as advance:
        if reading.kept is not None:
            reading.kept.heard = lambda count: advance(0, f"{count} replies")
        for start in range(0, len(todo), CHUNK):
            some, ledger = todo[start : start + CHUNK], Ledger()
            try:
                with setting.metered(ledger), ledger.timed("score"):
                    scores = _chunk(reading, some, against)
            finally:  # what a judge that broke off has cost was spent all the same
                store.append(folder / "ledger.jsonl", [ledger.to_json() | {"phase": "score"}])
            new = [s.to_json() for s in scores if before.get(s.key) != s]
            store.append(folder / f"scores.{reading.column}.jsonl", new)
            advance(len(some), "")


def _chunk(
    reading: Reading, some: Sequence[Answered], against: Mapping[tuple[str, int], str]
) -> list[Score]:
    asked = [a for a in some if not reading.scorer.against or a.response.text != against[a.key]]
    made = {s.key: s for s in reading.scorer.score(asked, against)} if asked else {}
    if set(made) != {a.key for a in asked}:
        raise PlumblineError(
            f"scorer {reading.column} gave {len(made)} scores for {len(asked)} answers"
        )
    ties = {a.key: Score(*a.key, 0.5, "tie", text=SAME) for a in some}
    return [_finite((ties | made)[a.key]) for a in some]


def _finite(score: Score) -> Score:
    """Count a number that is none as a failure; it is never averaged."""
    if score.value is None or math.isfinite(score.value):
        return score
    return replace(score, value=None, outcome="failed")
