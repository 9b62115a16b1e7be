"""Rows held against the reference and against one another: every number of one table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.records import Json
from harness.report.cost import Cost, cost_of
from harness.report.frames import REFERENCE, Cell, Key, Row
from harness.report.statistics import (
    RESAMPLES,
    Array,
    Contrast,
    Estimate,
    bootstrap,
    cluster_sums,
    holm,
    identity_seed,
    mean_over_rows,
    rank_intervals,
    sign_flip_p,
)
from harness.report.verdicts import Verdicts, verdicts

NOTHING = Estimate(math.nan)


@dataclass
class Result:
    """One row with every number of its line.

    means       scorer -> mean; its sub-scores as "scorer.part".
    difference  headline less the reference's on the same items, or None: then ``why``.
    p, p_holm   sign-flip test of the difference; corrected for the number of rows.
    rank        the places it may hold, or None where it cannot be ranked.
    """

    row: Row
    means: dict[str, Estimate] = field(default_factory=dict)
    headline: Estimate = NOTHING
    difference: Estimate | None = None
    why: str = ""
    p: float = math.nan
    p_holm: float = math.nan
    rank: tuple[int, int] | None = None
    cost: Cost = field(default_factory=Cost)
    verdicts: dict[str, Verdicts] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One benchmark's table in numbers.

    headline   the scorer that stands first, or "" where no independent one exists.
    scorers    every scorer that any row has, sorted.
    withheld   whether ordering was withheld between rows tuned with different trials.
    """

    cell: Cell
    headline: str
    scorers: tuple[str, ...]
    results: tuple[Result, ...]
    withheld: bool = False

    @property
    def spec(self) -> Mapping[str, Json]:
        """Give the spec that speaks for the table."""
        return self.cell.spec

    @property
    def reference(self) -> Result | None:
        """Give the row the others are compared with, if it was run."""
        return next((r for r in self.results if r.row is self.cell.reference), None)

    @property
    def ranked(self) -> int:
        """Count the rows that ranks are out of."""
        return sum(result.rank is not None for result in self.results)


def is_optimised(cell: Cell, scorer: str) -> bool:
    """Say whether this scorer is a reward that methods were granted."""
    shared = any(row.spec.get("optimised") for row in cell.rows)
    return scorer == "optimised_reward" or (scorer == "reward" and shared)


def judged(scorer: str) -> bool:
    """Say whether a scorer is a win rate; its name is win_rate@<judge>."""
    return scorer.split("@")[0] == "win_rate"


def choose_headline(cell: Cell) -> str:
    """Find the first declared headline that all rows have; "" where there is none.

    "win_rate" means any judge's.  A reward that methods optimise is never the headline.
    The reference needs no win rate of its own: it is what the others are judged against.
    """
    rows = [row for row in cell.rows if row.runs]
    for wanted in cell.spec.get("headlines") or ():
        for scorer in sorted({s for row in rows for s in row.scorers if s.split("@")[0] == wanted}):
            exempt = REFERENCE if judged(scorer) and len(rows) > 1 else None
            there = all(scorer in row.scorers or row.label == exempt for row in rows)
            if there and not is_optimised(cell, scorer):
                return scorer
    return ""


def compare(cell: Cell, *, resamples: int = RESAMPLES) -> Comparison:
    """Compute one table: means, paired differences, ranks, costs."""
    headline = choose_headline(cell)
    results = tuple(Result(row, cost=cost_of(row)) for row in cell.rows)
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.row.runs:
            groups.setdefault(result.row.items, []).append(result)
    withheld = [_Group(group, headline).fill(resamples) for group in groups.values()]
    home = cell.reference.items if cell.reference else ""
    for result in results:
        row = result.row
        if row.runs and len(groups) > 1 and row.items != home:
            result.rank = None  # places are held among rows that answered the same items
        result.why = _why(row, cell, headline)
    for result, p in zip(results, holm([result.p for result in results]), strict=True):
        result.p_holm = p
    scorers = sorted({s for row in cell.rows for run in row.runs for s in run.scores})
    return Comparison(cell, headline, tuple(scorers), results, any(withheld))


def _why(row: Row, cell: Cell, headline: str) -> str:
    """Say why a row has no difference; "" where it has one."""
    reference = cell.reference
    if not row.runs:
        return f"skipped: {row.skipped}"
    if reference is None:
        return f"no {REFERENCE} run"
    if row is reference:
        return "reference"
    if row.items != reference.items:
        return "items differ"
    return "" if headline else "no headline"


class _Group:
    """Rows that answered the same items; one set of cluster resamples serves them all."""

    def __init__(self, results: list[Result], headline: str) -> None:
        self.results = results
        self.headline = headline
        self.keys = sorted({key for result in results for key in result.row.answered})
        cluster = {
            k: c for r in results for k, c in zip(r.row.answered, r.row.clusters, strict=True)
        }
        self.clusters = [cluster[key] for key in self.keys]
        self.heads = [self._head(result.row) for result in results]
        labels = [result.row.label for result in results]
        self.base = labels.index(REFERENCE) if REFERENCE in labels else None

    def fill(self, resamples: int) -> bool:
        """Fill in every result; say whether an ordering was withheld."""
        named = [
            (result, name, values)
            for result in self.results
            for name, values in self._frames(result.row)
        ]
        pairs = [
            (i, j, Contrast(a, b))
            for i, a in enumerate(self.heads)
            for j, b in enumerate(self.heads[:i])
            if a is not None and b is not None
        ]
        estimates = bootstrap(
            [Contrast(values) for *_, values in named] + [contrast for *_, contrast in pairs],
            self.clusters,
            seed=identity_seed("bootstrap", *sorted(self.clusters)),
            resamples=resamples,
        )
        for (result, name, _), estimate in zip(named, estimates, strict=False):
            result.means[name] = estimate
        for result in self.results:
            result.headline = result.means.get(self.headline, NOTHING)
        self._judge()
        self._test()
        differences = estimates[len(named) :]
        return self._order({(i, j): e for (i, j, _), e in zip(pairs, differences, strict=True)})

    def _frames(self, row: Row) -> Iterator[tuple[str, Array]]:
        """Give every score and sub-score of a row on the group's keys."""
        for scorer in sorted({s for run in row.runs for s in run.scores}):
            yield scorer, self._spread(row, scorer)
            for part in row.parts(scorer):
                yield f"{scorer}.{part}", self._spread(row, scorer, part)

    def _spread(self, row: Row, scorer: str, part: str | None = None) -> Array:
        at = {key: i for i, key in enumerate(self.keys)}
        values = row.values(scorer, part)
        wide = np.full((len(values), len(self.keys)), np.nan)
        wide[:, [at[key] for key in row.answered]] = values
        return wide

    def _head(self, row: Row) -> Array | None:
        """Give the headline's values; a reference without verdicts is even with itself."""
        if self.headline in {s for run in row.runs for s in run.scores}:
            values = self._spread(row, self.headline)
            return None if np.isnan(values).all() else values
        if judged(self.headline) and row.label == REFERENCE:
            return np.full((1, len(self.keys)), 0.5)
        return None

    def _order(self, differences: Mapping[tuple[int, int], Estimate]) -> bool:
        """Turn pairwise differences into differences to the reference, and into ranks."""
        better = np.zeros((len(self.results), len(self.results)), dtype=bool)
        withheld = False
        for (i, j), estimate in differences.items():
            if i == self.base:
                self.results[j].difference = negated(estimate)
            elif j == self.base:
                self.results[i].difference = estimate
            if not estimate.excludes_zero:
                continue
            if tuned_alike(self.results[i].row, self.results[j].row):
                better[(i, j) if estimate.low > 0 else (j, i)] = True
            else:
                withheld = True
        there = [i for i, head in enumerate(self.heads) if head is not None]
        for i, rank in zip(there, rank_intervals(better[np.ix_(there, there)]), strict=True):
            self.results[i].rank = rank
        return withheld

    def _test(self) -> None:
        """Test every difference to the reference by flipping signs of clusters."""
        floor = None if self.base is None else self.heads[self.base]
        rows = [
            (result, mean_over_rows(head) - mean_over_rows(floor))
            for i, (result, head) in enumerate(zip(self.results, self.heads, strict=True))
            if head is not None and floor is not None and i != self.base
        ]
        if not rows:
            return
        names, codes = np.unique(np.asarray(self.clusters, dtype=str), return_inverse=True)
        sums = np.column_stack([cluster_sums(values, codes, len(names)) for _, values in rows])
        for (result, _), p in zip(
            rows, sign_flip_p(sums, seed=identity_seed("flips", *names)), strict=True
        ):
            result.p = float(p)

    def _judge(self) -> None:
        """Count verdicts of every judge, paired with the reference's where it has some."""
        base: Row | None = None if self.base is None else self.results[self.base].row
        for result in self.results:
            for scorer in filter(judged, result.row.scorers):
                ours = _by_seed(result.row, scorer)
                other = _by_seed(base, scorer) if base and base is not result.row else {}
                result.verdicts[scorer] = verdicts(
                    np.array(list(ours.values())),
                    np.array([other.get(key, math.nan) for key in ours]) if other else None,
                )


def _by_seed(row: Row, scorer: str) -> dict[tuple[int, Key], float]:
    """Give each verdict by seed and key, of the first fit where there are several."""
    found: dict[tuple[int, Key], float] = {}
    for run in row.runs:
        for key in run.keys:
            score = run.scores.get(scorer, {}).get(key)
            value = math.nan if score is None or score.value is None else score.value
            found.setdefault((int(run.spec.get("seed") or 0), key), value)
    return found


def negated(e: Estimate) -> Estimate:
    """Turn a difference round."""
    return Estimate(0.0 - e.value, 0.0 - e.high, 0.0 - e.low, e.se, e.n, e.clusters)


def tuned_alike(a: Row, b: Row) -> bool:
    """Say whether two rows had the same trials; a row without settings has nothing to tune."""
    if not (_settings(a) and _settings(b)):
        return True
    return trials(a) == trials(b)


def trials(row: Row) -> int:
    """Give how many trials its settings were chosen by."""
    return int((row.spec.get("tuning") or {}).get("trials") or 0)


def _settings(row: Row) -> bool:
    return any(part.get("settings") for part in row.spec.get("stack") or ())
