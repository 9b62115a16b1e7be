"""What tables read of a run folder, as columns, and kept beside it: parsed once, not every time.

A run's files are JSON lines of everything that was asked, answered and scored; a table needs
the numbers.  They are condensed into one small file in the run's folder, which says of which
files, sizes and times it was made: where any of these has changed it counts for nothing.
It may be deleted at any time, and where it cannot be written nothing is missing but speed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.conduct import store
from harness.ledger import Ledger
from harness.records import Json, Outcome, Score
from harness.report.statistics import Array

Key = tuple[str, int]
NAME, FORM = ".readings.json", 1
SETTLED = 2_000_000_000  # ns: a file changed twice within a clock's tick would look unchanged


class Scores(Mapping[Key, Score]):
    """One scorer's scores of a run, as columns in the order of the sorted keys; without words.

    outcomes  [n]; values: [n], NaN where there is none; parts: name -> [n], NaN where missing.
    """

    def __init__(
        self,
        keys: tuple[Key, ...],
        outcomes: Sequence[Outcome],
        values: Sequence[float | None],
        parts: Mapping[str, Sequence[float | None]],
    ) -> None:
        self.ordered, self.outcomes = keys, outcomes
        self.values_there = np.array(values, dtype=float)
        self.parts = {name: np.array(column, dtype=float) for name, column in parts.items()}

    @cached_property
    def _at(self) -> dict[Key, int]:
        return {key: i for i, key in enumerate(self.ordered)}

    @cached_property
    def _counts(self) -> Array:
        """Give 1 where a score enters a mean, else NaN."""
        counted = [outcome in ("ok", "tie") for outcome in self.outcomes]
        return np.where(np.array(counted, dtype=bool) & ~np.isnan(self.values_there), 1.0, np.nan)

    def __len__(self) -> int:
        return len(self.ordered)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.ordered)

    def __contains__(self, key: object) -> bool:
        return key in self._at

    def __getitem__(self, key: Key) -> Score:
        return self._made[self._at[key]]

    @cached_property
    def _made(self) -> list[Score]:
        columns = {name: column.tolist() for name, column in self.parts.items()}
        return [
            Score(
                *key,
                None if math.isnan(value) else value,
                self.outcomes[i],
                {n: c[i] for n, c in columns.items() if not math.isnan(c[i])},
            )
            for i, (key, value) in enumerate(
                zip(self.ordered, self.values_there.tolist(), strict=True)
            )
        ]

    def column(self, keys: tuple[Key, ...], part: str | None = None) -> Array:
        """Give a score, or a part of it, for each key; NaN where it enters no mean."""
        whole = self.values_there if part is None else self.parts.get(part)
        if whole is None:
            return np.full(len(keys), np.nan)
        counted = whole * self._counts
        if keys == self.ordered:
            return counted
        at = [self._at.get(key, -1) for key in keys]
        return np.append(counted, np.nan)[at]


def readings(folder: Path) -> dict[str, Json]:
    """Give a run's readings: kept ones where its files are as they were, else read anew.

    clusters, categories  prompt id -> its cluster, its category ("" where it has none).
    items                 digest of what was asked.
    tuned                 prompts that tuning had seen.
    keys                  (prompt, turn) of every response, sorted.
    scores                scorer -> keys (None: the run's), outcomes, values, parts.
    ledgers               phase -> what it cost.
    Raises StoreError where a file is broken.
    """
    made_of, newest = _sources(folder)
    path = folder / NAME
    with suppress(OSError, ValueError):
        kept = json.loads(path.read_bytes())
        if isinstance(kept, dict) and (kept.get("form"), kept.get("of")) == (FORM, made_of):
            return kept
    found = {"form": FORM, "of": made_of} | _read(folder)
    if time.time_ns() - newest > SETTLED:
        _keep(path, found)
    return found


def scores_of(found: Mapping[str, Json], keys: tuple[Key, ...]) -> dict[str, Scores]:
    """Give the columns of every scorer.

    keys  those of the run's responses.
    """
    return {
        name: Scores(
            keys if one["keys"] is None else _keys(one["keys"]),
            one["outcomes"],
            one["values"],
            one["parts"],
        )
        for name, one in found["scores"].items()
    }


def keys_of(found: Mapping[str, Json]) -> tuple[Key, ...]:
    """Give the keys of a run's responses, sorted."""
    return _keys(found["keys"])


def _keys(pairs: Iterable[Sequence[Json]]) -> tuple[Key, ...]:
    return tuple((prompt, turn) for prompt, turn in pairs)


def _sources(folder: Path) -> tuple[list[list[Json]], int]:
    """Name every file that is read, its size, time and place on disk; and the newest time."""
    names = ["prompts.jsonl", "responses.jsonl", "ledger.jsonl"]
    names += sorted(p.name for p in folder.glob("scores.*.jsonl"))
    found: list[list[Json]] = []
    for name in names:
        with suppress(FileNotFoundError):
            stat = (folder / name).stat()
            found.append([name, stat.st_size, stat.st_mtime_ns, stat.st_ino])
    return found, max((line[2] for line in found), default=0)


def _keep(path: Path, found: Mapping[str, Json]) -> None:
    """Write the readings whole or not at all; a folder that may only be read stays as it is."""
    with suppress(OSError):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=NAME)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(found))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)


def _read(folder: Path) -> dict[str, Json]:
    prompts = {str(p["id"]): p for p in store.read_lines(folder / "prompts.jsonl")}
    asked = [[i, p.get("chat"), p.get("turns")] for i, p in sorted(prompts.items())]
    digest = hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=8)
    ledgers: dict[str, Ledger] = {}
    for line in store.read_lines(folder / "ledger.jsonl"):
        phase = ledgers.setdefault(str(line.get("phase", "decode")), Ledger())
        phase += Ledger.from_json(line)
    answered = store.read_lines(folder / "responses.jsonl")
    keys = sorted({(str(line["prompt"]), int(line["turn"])) for line in answered})
    names = sorted(p.name[len("scores.") : -len(".jsonl")] for p in folder.glob("scores.*.jsonl"))
    return {
        "clusters": {i: str(p.get("cluster") or i) for i, p in prompts.items()},
        "categories": {i: str(p.get("category") or "") for i, p in prompts.items()},
        "items": digest.hexdigest(),
        "tuned": sum(bool(p.get("tuned")) for p in prompts.values()),
        "keys": keys,
        "scores": {name: _columns(folder / f"scores.{name}.jsonl", keys) for name in names},
        "ledgers": {phase: ledger.to_json() for phase, ledger in ledgers.items()},
    }


def _columns(path: Path, keys: Sequence[Key]) -> dict[str, Json]:
    """Turn one scorer's lines into columns; of several lines for one key the last counts."""
    lines = {(str(line["prompt"]), int(line["turn"])): line for line in store.read_lines(path)}
    ordered = sorted(lines)
    parts: dict[str, list[float | None]] = {}
    for i, key in enumerate(ordered):
        for name, value in (lines[key].get("parts") or {}).items():
            parts.setdefault(name, [None] * len(ordered))[i] = value
    return {
        "keys": None if ordered == list(keys) else ordered,
        "outcomes": [lines[key].get("outcome", "ok") for key in ordered],
        "values": [lines[key]["value"] for key in ordered],
        "parts": parts,
    }
