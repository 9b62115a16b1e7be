"""Judges at work: a judge's words over whoever answers for it, its replies kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.conduct import plugins, store
from harness.conduct.code import code_digest
from harness.conduct.replies import Kept
from harness.conduct.setting import Setting, endpoint_of, identity
from harness.conduct.terms import Judging, expanded
from harness.contracts.scorer import Instruments, Scorer, judge_scorer
from harness.errors import unknown
from harness.judging.endpoint import shown
from harness.judging.wording import reworded
from harness.records import Json


@dataclass(frozen=True)
class Reading:
    """One scorer at work: its column's name, and what its scores depend on beyond the run.

    kept  the judge's backend, where the scorer is a judge.
    """

    column: str
    scorer: Scorer
    identity: str
    against: str = "unsteered"
    kept: Kept | None = None


def kept(setting: Setting, results: store.Store, name: str, how: Judging) -> Kept:
    """Give whoever answers for a judge, asked only what it was never asked before."""
    backend = setting.backend(how)
    told = answers_by(setting, how)
    path = results.verdicts(name, backend.name, told)
    return Kept(backend, path, told, max_tokens=how.max_tokens)


def judge_reading(
    setting: Setting, results: store.Store, name: str, how: Judging, instruments: Instruments
) -> Reading:
    """Put a judge to work as the protocol (or a command) says."""
    file, judge = plugins.judge_file(name), plugins.judge(name)
    if how.prompts is not None:
        judge = reworded(name, judge, Path(expanded(how.prompts)))
    asked = kept(setting, results, name, how)
    scorer = judge_scorer(replace(instruments, backends={name: asked}), name, judge)
    column = f"{scorer.measure}@{name}"
    if how.backend != "world":
        column += f"@{store.plain(asked.name)}"
    made_by = store.digest([code_digest(file), judge.template, how.verdict_by()])
    return Reading(column, scorer, made_by, how.against, asked)


def answers_by(setting: Setting, how: Judging) -> dict[str, Json]:
    """Tell a judge's model from every other one; two of one name and other content differ."""
    told: dict[str, Json] = how.answers_by()
    if how.url is not None:
        told["url"] = shown(how.url)
    weights = how.weights()
    if weights is not None:
        told["weights"] = identity(weights)
        if weights.local:  # told by its content, wherever it lies
            told.pop("path", None)
            told.pop("unpinned", None)
    if how.backend == "world" and setting.world is not None:
        told["world"] = store.digest(setting.world.recipe())
    return told


def check(judging: dict[str, Judging]) -> None:
    """Raise, before anything is run, for a judge that does not exist or cannot be asked."""
    known = [one.name for one in plugins.judges()]
    for name, how in judging.items():
        if name not in known:
            raise unknown("judge (the protocol's [judging])", name, known)
        found = plugins.judge(name)
        if how.prompts is not None:
            reworded(name, found, Path(expanded(how.prompts)))
        if how.backend == "openai":
            endpoint_of(how)
