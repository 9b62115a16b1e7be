"""Run folders read into plain frames: one Run per folder, one Row per line of a table.

Only what a run left on disk is read; nothing here knows a method or a benchmark.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.conduct import store
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Json, Score
from harness.report.pool import Pool
from harness.report.readings import Key, Scores, keys_of, readings, scores_of
from harness.report.statistics import Array, mean_over_rows

REFERENCE = "unsteered"
VARYING = ("seed", "fit_seeds", "fits", "kl", "marks", "about")  # may differ within a row
Seen = tuple[int, Key]  # sampling seed, (prompt, turn)


@dataclass(frozen=True)
class Run:
    """One finished run folder.

    clusters   prompt id -> cluster; categories: prompt id -> category, "" for none.
    items      digest of what was asked; equal for runs over the same items.
    keys       (prompt, turn) of every response, sorted.
    scores     scorer -> key -> Score, its words left out.
    ledgers    phase -> what it cost.
    made       environment.json: where and with what; never compared between rows.
    """

    folder: Path
    spec: Mapping[str, Json]
    clusters: Mapping[str, str]
    categories: Mapping[str, str]
    items: str
    keys: tuple[Key, ...]
    scores: Mapping[str, Scores]
    ledgers: Mapping[str, Ledger]
    notes: Mapping[str, int]
    made: Mapping[str, Json]

    @property
    def device(self) -> str:
        """Name the device it ran on."""
        return str(self.made.get("device") or "")

    @property
    def seed(self) -> int:
        """Give the seed its answers were drawn under."""
        return int(self.spec.get("seed") or 0)

    @property
    def fit(self) -> tuple[str, ...]:
        """Give the fits it used; empty where nothing is fitted."""
        return tuple(fit for fit in self.spec.get("fits") or () if fit)


@dataclass(frozen=True)
class Row:
    """One line of a table: the runs of one stack that differ only in their seeds.

    skipped  why there are no runs, or "".
    """

    label: str
    runs: tuple[Run, ...] = ()
    skipped: str = ""

    @property
    def spec(self) -> Mapping[str, Json]:
        """Give what the runs share."""
        return self.runs[0].spec if self.runs else {}

    @property
    def items(self) -> str:
        """Give the digest of the items; runs of one row read the same."""
        return "+".join(sorted({run.items for run in self.runs}))

    @property
    def marks(self) -> tuple[str, ...]:
        """Give the marks of all runs, in the order they first occur."""
        return tuple(dict.fromkeys(m for run in self.runs for m in run.spec.get("marks") or ()))

    @property
    def fits(self) -> int:
        """Count distinct fits; 0 where nothing is fitted."""
        return len({run.fit for run in self.runs if run.fit})

    @property
    def responses(self) -> int:
        """Count answers over all runs."""
        return sum(len(run.keys) for run in self.runs)

    @property
    def scorers(self) -> set[str]:
        """Name the scorers that every run has."""
        return set.intersection(*({*run.scores} for run in self.runs)) if self.runs else set()

    @cached_property
    def answered(self) -> tuple[Key, ...]:
        """Give every (prompt, turn) answered, sorted."""
        return tuple(sorted({key for run in self.runs for key in run.keys}))

    @cached_property
    def clusters(self) -> list[str]:
        """Give the cluster of each key."""
        merged = {prompt: c for run in self.runs for prompt, c in run.clusters.items()}
        return [merged.get(prompt) or prompt for prompt, _ in self.answered]

    def values(self, scorer: str, part: str | None = None) -> Array:
        """Give [fits, keys] of one scorer, seeds averaged within a fit; NaN where missing."""
        keys = self.answered
        by_fit: dict[tuple[str, ...], list[Array]] = {}
        for run in self.runs:
            scores = run.scores.get(scorer)
            column = np.full(len(keys), np.nan) if scores is None else scores.column(keys, part)
            by_fit.setdefault(run.fit, []).append(column)
        return np.stack(
            [mean_over_rows(np.stack(columns)) for _, columns in sorted(by_fit.items())]
        )

    def by_seed(self, scorer: str) -> dict[Seen, Score | None]:
        """Give each score by seed and key, of the first fit where there are several."""
        found: dict[Seen, Score | None] = {}
        for run in self.runs:
            if (scores := run.scores.get(scorer)) is not None:
                seed = run.seed
                for key in run.keys:
                    found.setdefault((seed, key), scores.get(key))
        return found

    def values_by_seed(self, scorer: str) -> dict[Seen, float]:
        """Give each value by seed and key, of the first fit where there are several."""
        found: dict[Seen, float] = {}
        for run in self.runs:
            if (scores := run.scores.get(scorer)) is not None:
                seed, values = run.seed, scores.values_there.tolist()
                for key, value in zip(scores.ordered, values, strict=True):
                    found.setdefault((seed, key), value)
        return found

    def parts(self, scorer: str) -> list[str]:
        """Name the sub-scores that any of its scores has."""
        scored = [run.scores[scorer] for run in self.runs if scorer in run.scores]
        return sorted({part for scores in scored for part in scores.parts})

    def outcomes(self, scorer: str) -> Counter[str]:
        """Count the outcomes of one scorer, and as "missing" the answers it did not read.

        A scorer that a run was never given misses nothing; KL reads a sample by design.
        """
        counts: Counter[str] = Counter()
        for run in self.runs:
            scores = run.scores.get(scorer)
            if scores is None:
                continue
            counts.update(scores.outcomes)
            if scores and scorer != "kl" and scores.ordered != run.keys:
                counts["missing"] += len(set(run.keys) - set(scores))
        return +counts

    def cost(self, phases: frozenset[str]) -> Ledger:
        """Add up what some phases cost over all runs."""
        total = Ledger()
        for run in self.runs:
            for phase, ledger in run.ledgers.items():
                if phase in phases:
                    total += ledger
        return total


@dataclass(frozen=True)
class Cell:
    """All rows of one benchmark under one set of terms.

    unfinished  folders without ``done``, left out.
    superseded  runs left out because a larger or newer run of the same row exists.
    """

    benchmark: str
    rows: tuple[Row, ...]
    unfinished: int = 0
    superseded: int = 0

    @property
    def spec(self) -> Mapping[str, Json]:
        """Give the spec that speaks for the table: the reference's, else the first."""
        specs = [row.spec for row in self.rows if row.runs]
        return specs[0] if specs else {}

    @property
    def reference(self) -> Row | None:
        """Give the row the others are compared with, if it was run."""
        return next((row for row in self.rows if row.label == REFERENCE and row.runs), None)


def read_cell(folder: Path) -> Cell:
    """Read one benchmark's folder: every finished run and every skipped stack."""
    groups: dict[str, dict[str, list[Run]]] = {}
    skipped: dict[str, str] = {}
    unfinished = 0
    for stack in sorted(path for path in folder.iterdir() if path.is_dir()):
        note = stack / "skipped.json"
        if note.exists():
            line = store.read_json(note)
            skipped[str(line.get("method", stack.name))] = str(
                line.get("reason", "no reason given")
            )
        for spec in sorted(stack.glob("*/spec.json")):
            if not (spec.parent / "done").exists():
                unfinished += 1
                continue
            run = read_run(spec.parent)
            shared = {k: v for k, v in run.spec.items() if k not in VARYING}
            identity = json.dumps(shared, sort_keys=True)
            groups.setdefault(run.spec["method"], {}).setdefault(identity, []).append(run)
    hashes = {r.spec["protocol_hash"] for g in groups.values() for runs in g.values() for r in runs}
    if len(hashes) > 1:
        raise PlumblineError(
            f"{folder} holds runs of several protocol hashes ({', '.join(sorted(hashes))}); "
            "one table takes runs of one hash only"
        )
    rows, superseded = [], 0
    for label, variants in groups.items():
        kept = max(variants.values(), key=_standing)
        superseded += sum(map(len, variants.values())) - len(kept)
        rows.append(Row(label, tuple(kept)))
    rows += [Row(label, skipped=why) for label, why in skipped.items() if label not in groups]
    rows.sort(key=lambda row: (row.label != REFERENCE, row.label))
    return Cell(folder.name, tuple(rows), unfinished, superseded)


def _standing(runs: list[Run]) -> tuple[float, float, str]:
    """Order the variants of one row: most items first, then the newest."""
    limit = runs[0].spec.get("limit") or float("inf")
    written = max(finished(run.folder) for run in runs)
    return limit, written, runs[0].folder.name


def finished(folder: Path) -> float:
    """Give when a run was finished; 0 where it is not."""
    done = folder / "done"
    return done.stat().st_mtime if done.exists() else 0.0


def read_run(folder: Path) -> Run:
    """Read one run folder, whether or not it is done."""
    spec = store.read_json(folder / "spec.json")
    for name in ("method", "benchmark", "protocol", "protocol_hash"):
        if name not in spec:
            raise PlumblineError(f"{folder / 'spec.json'} has no field {name!r}")
    found = readings(folder)
    path, environment = folder / "notes.json", folder / "environment.json"
    notes = {str(k): int(v) for k, v in store.read_json(path).items()} if path.exists() else {}
    if found["tuned"]:
        notes["prompts that tuning had seen"] = int(found["tuned"])
    keys = keys_of(found)
    return Run(
        folder,
        spec,
        found["clusters"],
        found["categories"],
        found["items"],
        keys,
        scores_of(found, keys),
        {phase: Ledger.from_json(line) for phase, line in found["ledgers"].items()},
        notes,
        store.read_json(environment) if environment.exists() else {},
    )


def read_pools(run: Run) -> list[Pool]:
    """Read the candidates of a search that took one per answer; empty where it did not."""
    by_key: dict[Key, list[Mapping[str, Json]]] = {}
    for line in store.read_lines(run.folder / "pool.jsonl"):
        if line.get("score") is not None:
            by_key.setdefault((str(line["prompt"]), int(line["turn"])), []).append(line)
    pools = []
    for (prompt, _), lines in sorted(by_key.items()):
        golds = [line.get("gold") for line in lines]
        gold = None if None in golds else np.array(golds, dtype=float)
        scores = np.array([line["score"] for line in lines], dtype=float)
        pools.append(Pool(run.clusters.get(prompt, prompt), scores, gold))
    return pools


def fit_seconds(results: Path, row: Row) -> float:
    """Add up the seconds its fits took, each fit once; 0 where nothing is fitted."""
    seconds = 0.0
    for fit in sorted({name for run in row.runs for name in run.fit}):
        for folder in sorted(results.glob(f"fits/*/*/{fit}")):
            for line in store.read_lines(folder / "ledger.jsonl"):
                seconds += sum(Ledger.from_json(line).seconds.values())
    return seconds
