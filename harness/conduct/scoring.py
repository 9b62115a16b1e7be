"""Score stored answers; only what has no score yet is scored, nothing is generated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.conduct import plugins, store
from harness.conduct.cell import Cell
from harness.conduct.code import code_digest
from harness.conduct.generating import conversation
from harness.conduct.terms import Judging, expanded
from harness.contracts.scorer import Answered, Scorer, judge_scorer
from harness.errors import PlumblineError, unknown
from harness.judging.wording import reworded
from harness.ledger import Ledger
from harness.progress import progress
from harness.records import Json, Prompt, Score

CHUNK = 256  # responses between two writes of a score file
SAME = "identical to the answer it is compared with, so a tie by definition; nobody was asked"


@dataclass(frozen=True)
class Reading:
    """One scorer at work: its column's name, and what its scores depend on beyond the run."""

    column: str
    scorer: Scorer
    identity: str
    against: str = "unsteered"


def score(cell: Cell, folder: Path, reference: Path | None) -> Mapping[str, int]:
    """Bring every scorer's file of a run up to date; give a count of what has no score.

    reference  the unsteered run's folder; None where this run is the unsteered one.
    """
    prompts = {p.id: p for p in cell.questions.prompts}
    answers = {r.key: r for r in store.responses(folder)}
    answered = [
        Answered(prompts[r.prompt], conversation(prompts[r.prompt], answers, r.turn), r)
        for r in answers.values()
    ]
    notes: Counter[str] = Counter()
    at_work = readings(cell)
    _settle(folder, at_work)
    for reading in at_work:
        have = store.scores(folder, reading.column)
        todo = [a for a in answered if a.key not in have]
        against: Mapping[tuple[str, int], str] = {}
        if reading.scorer.against:
            against = _texts(prompts, reference or folder, reading.against)
            missing = [a for a in todo if a.key not in against]
            if missing:
                notes[f"answers without {reading.against} to compare with"] += len(missing)
            todo = [a for a in todo if a.key in against]
        if todo:
            _score(cell, folder, reading, todo, against)
    return notes


def readings(cell: Cell) -> list[Reading]:
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
        found.append(_judge(cell, name, how))
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


def _judge(cell: Cell, name: str, how: Judging) -> Reading:
    file, judge = plugins.judge_file(name), plugins.judge(name)
    if how.prompts is not None:
        judge = reworded(name, judge, Path(expanded(how.prompts)))
    backend = cell.setting.backend(how)
    instruments = replace(cell.setting.instruments, backends={name: backend})
    scorer = judge_scorer(instruments, name, judge)
    column = f"{scorer.measure}@{name}"
    if how.backend != "world":
        column += f"@{backend.name}"
    unset = {"prompts"} if how.prompts is None else set()
    named = how.model_dump(mode="json", exclude={"benchmarks", *unset})
    identity = store.digest([code_digest(file), judge.template, named])
    return Reading(column, scorer, identity, how.against)


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
    cell: Cell,
    folder: Path,
    reading: Reading,
    todo: Sequence[Answered],
    against: Mapping[tuple[str, int], str],
) -> None:
    what = f"{cell.label} on {cell.questions.name}: {reading.column}"
    ledger = Ledger()
    with cell.setting.metered(ledger), ledger.timed("score"), progress(what, len(todo)) as advance:
        for start in range(0, len(todo), CHUNK):
            some = todo[start : start + CHUNK]
            asked = [
                a for a in some if not reading.scorer.against or a.response.text != against[a.key]
            ]
            made = {s.key: s for s in reading.scorer.score(asked, against)} if asked else {}
            if set(made) != {a.key for a in asked}:
                raise PlumblineError(
                    f"scorer {reading.column} gave {len(made)} scores for {len(asked)} answers"
                )
            ties = {a.key: Score(*a.key, 0.5, "tie", text=SAME) for a in some}
            lines = [_finite((ties | made)[a.key]).to_json() for a in some]
            store.append(folder / f"scores.{reading.column}.jsonl", lines)
            advance(len(some), "")
    store.append(folder / "ledger.jsonl", [ledger.to_json() | {"phase": "score"}])


def _finite(score: Score) -> Score:
    """Count a number that is none as a failure; it is never averaged."""
    if score.value is None or math.isfinite(score.value):
        return score
    return replace(score, value=None, outcome="failed")


def check_judges(names: Sequence[str]) -> None:
    """Raise for a judge under [judging] that does not exist."""
    known = [one.name for one in plugins.judges()]
    for name in names:
        if name not in known:
            raise unknown("judge (the protocol's [judging])", name, known)
