"""Capability results read back, and every row held against unsteered item by item."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.conduct import store
from harness.ledger import Ledger
from harness.records import Json
from harness.report.frames import REFERENCE, finished
from harness.report.statistics import Array, Contrast, Estimate, bootstrap, identity_seed

WAYS = ("task", "chat", "fewshot", "limit")
PUT = ("task", "items", "chat", "fewshot", "limit", "lm_eval")  # what makes a task the same task
OF_A_FIT = ("fits", "fit_seeds", "marks", "about")  # may differ between the fits of one row
Item = tuple[str, str]


@dataclass(frozen=True)
class Evaluated:
    """One finished (row, task) of one fit."""

    folder: Path
    spec: Mapping[str, Json]

    @property
    def put(self) -> str:
        """Name the task as it was put: its items, its examples, its template."""
        return store.canonical([self.spec[name] for name in PUT])

    @cached_property
    def measures(self) -> list[str]:
        """Give the measures every item has, the headline first."""
        return list(store.read_json(self.folder / "measures.json")["measures"])

    @cached_property
    def higher(self) -> Mapping[str, bool]:
        """Say of each measure whether more is better."""
        found: dict[str, bool] = store.read_json(self.folder / "measures.json")["higher"]
        return found

    @cached_property
    def values(self) -> dict[str, dict[Item, float]]:
        """Give measure -> item -> value."""
        out: dict[str, dict[Item, float]] = {}
        for line in store.read_lines(self.folder / "items.jsonl"):
            for name, value in line["values"].items():
                key = f"{name},{line['filter']}"
                out.setdefault(key, {})[(line["task"], str(line["doc"]))] = value
        return out

    @property
    def whole(self) -> Mapping[str, Json]:
        """Give lm-eval's own figures for the set."""
        found: Mapping[str, Json] = store.read_json(self.folder / "lm_eval.json")
        figures: Mapping[str, Json] = found.get(self.spec["task"]) or {}
        return figures

    @property
    def notes(self) -> Mapping[str, int]:
        """Give what was left out, with its count."""
        found: Mapping[str, int] = store.read_json(self.folder / "notes.json")
        return found

    @property
    def seconds(self) -> float:
        """Give what it took."""
        ledger = Ledger.from_json(store.read_json(self.folder / "ledger.json"))
        return sum(ledger.seconds.values())


@dataclass(frozen=True)
class Taxed:
    """One row on one task.

    level, change  measure -> mean over items; less unsteered's on the same items.
    """

    label: str
    runs: tuple[Evaluated, ...] = ()
    skipped: str = ""
    level: dict[str, Estimate] = field(default_factory=dict)
    change: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Tax:
    """One task, put one way, with every row that was evaluated on it or skipped.

    title       the task, and what was not as its file has it.
    superseded  finished runs left out: a newer one of the row, or of an edited task, exists.
    """

    title: str
    spec: Mapping[str, Json]
    measures: tuple[str, ...]
    higher: Mapping[str, bool]
    rows: tuple[Taxed, ...]
    superseded: int = 0

    def row(self, label: str) -> Taxed | None:
        """Find a row."""
        return next((row for row in self.rows if row.label == label), None)


def read_taxes(results: Path, terms: str) -> list[Tax]:
    """Read everything evaluated under ``<protocol>-<hash>``, task by task."""
    root = results / "capability" / terms
    tasks = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [tax for task in tasks for tax in _taxes(task)]


def read_evaluated(folder: Path) -> Evaluated:
    """Read one finished folder."""
    return Evaluated(folder, store.read_json(folder / "spec.json"))


def compare(runs: Mapping[str, Sequence[Evaluated]]) -> dict[str, Taxed]:
    """Estimate every row's level, and its paired change against unsteered, on each measure."""
    base = runs.get(REFERENCE)
    measures = next(iter(runs.values()))[0].measures
    levels: dict[str, dict[str, Estimate]] = {label: {} for label in runs}
    changes: dict[str, dict[str, Estimate]] = {label: {} for label in runs}
    for measure in measures:
        items = sorted({i for group in runs.values() for run in group
                        for i in run.values.get(measure, {})})  # fmt: skip
        tables = {label: _table(group, measure, items) for label, group in runs.items()}
        others = [label for label in runs if base and label != REFERENCE]
        contrasts = [Contrast(table) for table in tables.values()]
        contrasts += [Contrast(tables[label], tables[REFERENCE]) for label in others]
        names = ["\x1f".join(item) for item in items]
        seed = identity_seed("capability", *names)
        found = bootstrap(contrasts, names, seed=seed)
        for label, estimate in zip(tables, found, strict=False):
            levels[label][measure] = estimate
        for label, estimate in zip(others, found[len(tables) :], strict=True):
            changes[label][measure] = estimate
    return {
        label: Taxed(label, tuple(group), level=levels[label], change=changes[label])
        for label, group in runs.items()
    }


def _taxes(folder: Path) -> list[Tax]:
    skipped: dict[str, str] = {}
    found: list[Evaluated] = []
    for stack in sorted(path for path in folder.iterdir() if path.is_dir()):
        notes = [store.read_json(note) for note in sorted(stack.glob("skipped.*.json"))]
        skipped |= {note["method"]: note["reason"] for note in notes}
        specs = [path for path in sorted(stack.glob("*/spec.json")) if finished(path.parent)]
        found += [read_evaluated(path.parent) for path in specs]
    ways: dict[str, list[Evaluated]] = {}
    for run in found:
        ways.setdefault(store.canonical([run.spec[name] for name in WAYS]), []).append(run)
    titles = [_title(runs[0].spec) for runs in ways.values()]
    taxes = []
    for runs, title in zip(ways.values(), titles, strict=True):
        how = "chat" if runs[0].spec["chat"] else "plain"
        taxes.append(_tax(runs, skipped, f"{title}, {how}" if titles.count(title) > 1 else title))
    return sorted(taxes, key=lambda tax: (tax.spec["limit"] is not None, tax.title))


def _tax(every: Sequence[Evaluated], skipped: Mapping[str, str], title: str) -> Tax:
    """Keep the newest of a task that was edited, and the newest runs of each row."""
    put = max(every, key=lambda run: finished(run.folder)).put
    rows: dict[str, dict[str, list[Evaluated]]] = {}
    for run in (run for run in every if run.put == put):
        shared = store.canonical({k: v for k, v in run.spec.items() if k not in OF_A_FIT})
        rows.setdefault(run.spec["method"], {}).setdefault(shared, []).append(run)
    kept = {label: max(same.values(), key=_newest) for label, same in rows.items()}
    absent = (Taxed(k, skipped=why) for k, why in skipped.items() if k not in kept)
    taxed = sorted(
        [*compare(kept).values(), *absent], key=lambda row: (row.label != REFERENCE, row.label)
    )
    first = next(iter(kept.values()))[0]
    left = len(every) - sum(map(len, kept.values()))
    return Tax(title, first.spec, tuple(first.measures), first.higher, tuple(taxed), left)


def _title(spec: Mapping[str, Json]) -> str:
    shots, limit = spec["fewshot"], spec["limit"]
    more = [f"{shots}-shot"] if shots is not None else []
    more += [f"first {limit}"] if limit is not None else []
    return f"{spec['task']} ({', '.join(more)})" if more else str(spec["task"])


def _newest(runs: list[Evaluated]) -> float:
    return max(finished(run.folder) for run in runs)


def _table(runs: Sequence[Evaluated], measure: str, items: Sequence[Item]) -> Array:
    """Give [fits, items], NaN where an item has no value."""
    rows = [[run.values.get(measure, {}).get(item, math.nan) for item in items] for run in runs]
    return np.array(rows, dtype=float)
