"""Rows held against the reference and against one another: every number of one table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.records import Json
from harness.report.cost.costs import Cost, cost_of
from harness.report.frames import REFERENCE, Cell, Row
from harness.report.resampling import RESAMPLES
from harness.report.simultaneous import Family
from harness.report.statistics import (
    Array,
    Contrast,
    Estimate,
    cluster_sums,
    holm,
    identity_seed,
    mean_over_rows,
    plain_mean,
    rank_intervals,
    replicated,
    sign_flip_p,
)
from harness.report.trust import Trust, judged_row, trust
from harness.report.verdicts import Verdicts

NOTHING = Estimate(math.nan)


@dataclass
class Result:
    """One row with every number of its line.

    means       scorer -> mean; its sub-scores as "scorer.part".
    difference  headline less the reference's on the same items, or None: then ``why``.
    joint       the same with the interval of the declared family: all rows of all tables.
    p, test     of the difference: McNemar's on strict verdicts where the headline is a win
                rate, else by flipping signs; p_holm: corrected for the family's size.
    rank        the places it may hold, or None where it cannot be ranked.
    verdicts    judge's scorer -> its verdicts counted; trust: held against the truth.
    """

    row: Row
    means: dict[str, Estimate] = field(default_factory=dict)
    headline: Estimate = NOTHING
    difference: Estimate | None = None
    joint: Estimate | None = None
    why: str = ""
    p: float = math.nan
    test: str = ""
    p_holm: float = math.nan
    rank: tuple[int, int] | None = None
    cost: Cost = field(default_factory=Cost)
    verdicts: dict[str, Verdicts] = field(default_factory=dict)
    trust: dict[str, Trust] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One benchmark's table in numbers.

    headline   the scorer that stands first, or "" where no independent one exists.
    scorers    every scorer that any row has, sorted.
    withheld   whether ordering was withheld between rows tuned with different trials.
    family     this table's own differences to the reference; joint: how many differences the
               intervals hold for at once, over all tables.
    """

    cell: Cell
    headline: str
    scorers: tuple[str, ...]
    results: tuple[Result, ...]
    withheld: bool = False
    family: Family = field(default_factory=Family)
    joint: int = 0

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


def by_judge(scorer: str) -> bool:
    """Say whether a scorer asks a judge; its name is <what is asked>@<judge>."""
    return "@" in scorer


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
    family = Family()
    withheld = [_Group(group, headline).fill(resamples, family) for group in groups.values()]
    home = cell.reference.items if cell.reference else ""
    for result in results:
        row = result.row
        if row.runs and len(groups) > 1 and row.items != home:
            result.rank = None  # places are held among rows that answered the same items
        result.why = _why(row, cell, headline)
    scorers = sorted({s for row in cell.rows for run in row.runs for s in run.scores})
    found = Comparison(cell, headline, tuple(scorers), results, any(withheld), family)
    return declared([found])[0]


def declared(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Read the rows of several tables as one family: intervals and p-values hold together.

    The family is declared by the tables themselves: every row that has a difference, on each
    benchmark's headline.
    """
    family = Family.joined(comparison.family for comparison in comparisons)
    results = [r for comparison in comparisons for r in comparison.results]
    for result in results:
        if result.difference is not None:
            result.joint = family.interval(result.difference)
    for result, p in zip(results, holm([result.p for result in results]), strict=True):
        result.p_holm = p
    return [replace(comparison, joint=family.count) for comparison in comparisons]


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

    def fill(self, resamples: int, family: Family) -> bool:
        """Fill in every result; say whether an ordering was withheld.

        family  takes the differences to the reference.
        """
        named = [
            (result, name, values)
            for result in self.results
            for name, values in self._frames(result.row)
        ]
        pairs = [
            (i, j, Contrast(a, b, bounds=self.base in (i, j)))
            for i, a in enumerate(self.heads)
            for j, b in enumerate(self.heads[:i])
            if a is not None and b is not None
        ]
        made = replicated(
            [Contrast(values) for *_, values in named] + [contrast for *_, contrast in pairs],
            self.clusters,
            seed=identity_seed("bootstrap", *sorted(self.clusters)),
            resamples=resamples,
        )
        for (result, name, _), (estimate, _) in zip(named, made, strict=False):
            result.means[name] = estimate
        for result in self.results:
            result.means.update(self._parts(result.row))
            result.headline = result.means.get(self.headline, NOTHING)
        everybody, differences = Family(), dict[tuple[int, int], Estimate]()
        for (i, j, _), (estimate, replicates) in zip(pairs, made, strict=True):
            differences[i, j] = estimate
            everybody.add(estimate, replicates)
            if self.base in (i, j):
                family.add(estimate, replicates)
        self._judge()
        self._test()
        return self._order(differences, everybody)

    def _frames(self, row: Row) -> Iterator[tuple[str, Array]]:
        """Give every score of a row, and a judge's labels, on the group's keys."""
        for scorer in sorted({s for run in row.runs for s in run.scores}):
            yield scorer, self._spread(row, scorer)
            for part in row.parts(scorer) if by_judge(scorer) else ():
                yield f"{scorer}.{part}", self._spread(row, scorer, part)

    def _parts(self, row: Row) -> Iterator[tuple[str, Estimate]]:
        """Give the means of all other sub-scores, which are told without an interval."""
        for scorer in sorted({s for run in row.runs for s in run.scores}):
            for part in () if by_judge(scorer) else row.parts(scorer):
                yield f"{scorer}.{part}", plain_mean(self._spread(row, scorer, part))

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

    def _order(self, differences: Mapping[tuple[int, int], Estimate], everybody: Family) -> bool:
        """Turn pairwise differences into differences to the reference, and into ranks.

        Two rows are ordered where their difference stands in the intervals that hold for
        all pairs at once; so all ranks together are right in 95 % of repetitions (Mogstad,
        Romano, Shaikh & Wilhelm, Review of Economic Studies 91, 2024).
        """
        better = np.zeros((len(self.results), len(self.results)), dtype=bool)
        withheld = False
        for (i, j), estimate in differences.items():
            if i == self.base:
                self.results[j].difference = negated(estimate)
            elif j == self.base:
                self.results[i].difference = estimate
            if not everybody.interval(estimate).excludes_zero:
                continue
            if tuned_alike(self.results[i].row, self.results[j].row):
                better[(i, j) if estimate.value > 0 else (j, i)] = True
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
        flips = sign_flip_p(sums, seed=identity_seed("flips", *names))
        for (result, _), p in zip(rows, flips, strict=True):
            found = result.verdicts.get(self.headline)
            result.p, result.test = (found.p, found.test) if found else (float(p), "sign flips")

    def _judge(self) -> None:
        """Count every judge's verdicts, and hold them against the truth where it is known."""
        base: Row | None = None if self.base is None else self.results[self.base].row
        for result in self.results:
            for scorer in filter(judged, result.row.scorers):
                result.verdicts[scorer] = judged_row(result.row, scorer, base)
                known = trust(result.row, scorer, base)
                if known is not None:
                    result.trust[scorer] = known


def negated(e: Estimate) -> Estimate:
    """Turn a difference round."""
    return replace(e, value=0.0 - e.value, low=0.0 - e.high, high=0.0 - e.low)


def tuned_alike(a: Row, b: Row) -> bool:
    """Say whether two rows were chosen alike: by as many evaluations, of the same thing.

    A row without settings has nothing to tune.
    """
    if not (_settings(a) and _settings(b)):
        return True
    return (trials(a), objective(a)) == (trials(b), objective(b))


def trials(row: Row) -> int:
    """Give how many evaluations its settings were chosen by, its fit's own included."""
    told = row.spec.get("tuning") or {}
    return int(told.get("trials") or 0) + int(told.get("fit") or 0)


def objective(row: Row) -> str:
    """Give what they optimised; "" where there were none."""
    return str((row.spec.get("tuning") or {}).get("objective") or "") if trials(row) else ""


def _settings(row: Row) -> bool:
    return any(part.get("settings") for part in row.spec.get("stack") or ())
