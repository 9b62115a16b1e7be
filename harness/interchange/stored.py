"""A stored run, read whole, as exporters need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.conduct import store
from harness.conduct.rejudging import prompts_of, runs_under
from harness.errors import PlumblineError
from harness.records import Json, Prompt, Score

Key = tuple[str, int]
REFERENCE = "unsteered"


@dataclass(frozen=True)
class Stored:
    """What a finished run left.

    answers  (prompt id, turn) -> text.
    scores   column -> key -> score.
    """

    folder: Path
    spec: Mapping[str, Json]
    prompts: tuple[Prompt, ...]
    answers: Mapping[Key, str]
    scores: Mapping[str, Mapping[Key, Score]]

    @property
    def label(self) -> str:
        """Name the row."""
        return str(self.spec["method"])

    def opponent(self, column: str) -> tuple[str, dict[Key, str]]:
        """Give who a judge of pairs compared with: its name and its answers.

        The unsteered run's answers where that run ties with itself under the judge, the set's
        own otherwise.
        """
        for path in sorted((self.folder.parent.parent / REFERENCE).glob("*/spec.json")):
            theirs = path.parent
            other = store.read_json(path)
            if other.get("items") != self.spec.get("items") or not store.is_done(theirs):
                continue
            said = store.scores(theirs, column).values()
            if said and all(s.outcome == "tie" for s in said):
                return REFERENCE, {r.key: r.text for r in store.responses(theirs)}
        baseline = (self.spec.get("external") or {}).get("baseline") or ["reference"]
        texts = {
            (p.id, turn): text
            for p in self.prompts
            for turn, text in enumerate((p.reference, *p.further))
            if text is not None
        }
        return str(baseline[0]), texts


def read_run(place: Path) -> Stored:
    """Read the one finished run in a folder: its own, or that of a row with one run.

    Raises PlumblineError where there is none, or more than one.
    """
    folders = runs_under(place)
    if len(folders) > 1:
        raise PlumblineError(
            f"{place} holds {len(folders)} runs; name one, for instance {folders[0]}"
        )
    (folder,) = folders
    names = [p.name[len("scores.") : -len(".jsonl")] for p in folder.glob("scores.*.jsonl")]
    return Stored(
        folder,
        store.verify(folder),
        tuple(prompts_of(folder)),
        {r.key: r.text for r in store.responses(folder)},
        {name: store.scores(folder, name) for name in sorted(names)},
    )


def judge_name(column: str) -> str:
    """Name the judge of a column: ``win_rate@judge@model`` is by ``judge``."""
    return column.partition("@")[2].partition("@")[0] or column
