"""The variance of a mean difference, split into what fits, sampling and prompts add to it.

Every fit answers every prompt under every sampling seed, so the differences to the reference
form a crossed table without replication.  Under random effects of fits, seeds, prompts and all
their interactions, the expected mean squares are linear in the components, and solving for
them gives the method-of-moments (ANOVA) estimates: Searle, Casella & McCulloch, Variance
Components (1992), ch. 4.  An estimate below zero is read as zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.report.comparison import Comparison, judged
from harness.report.frames import Row, Run
from harness.report.statistics import Array, cluster_counts, cluster_sums

Effect = frozenset[str]
ROUNDING = 1e-24  # a variance this small beside the squares it is made of is round-off
FIT, SAMPLING, PROMPT = AXES = ("fit", "sampling", "prompt")
PARTS = (FIT, SAMPLING, PROMPT, "residual")


@dataclass(frozen=True)
class Split:
    """The components of one row's mean difference.

    sizes       fits, sampling seeds, prompts (clusters) that the mean is over.
    components  effect (the axes it depends on) -> its variance, at least zero.
    mean        of the differences; used, left: answers that entered, and those that some run
                of the row or of the reference has no value for.
    learns      whether anything is fitted.
    """

    sizes: Mapping[str, int]
    components: Mapping[Effect, float]
    mean: float = math.nan
    used: int = 0
    left: int = 0
    learns: bool = False

    def variance(self, **sizes: int) -> float:
        """Give the variance of the mean, had there been other numbers of fits, seeds, prompts."""
        return sum(self._of(effect, sizes) for effect in self.components)

    def part(self, name: str) -> float:
        """Give what a part adds to the variance of the mean; NaN where it cannot be told.

        The interaction of a part with prompts is its own.  Where fits and sampling both vary,
        their interactions are the residual; where one sampling seed was run, so is whatever
        differs from fit to fit on single prompts.
        """
        known = {
            FIT: self.sizes[FIT] > 1,
            SAMPLING: self.sizes[SAMPLING] > 1,
            PROMPT: True,
            "residual": self.sizes[FIT] > 1,
        }
        if not known[name]:
            return math.nan
        return sum(self._of(effect, {}) for effect in self.components if self._home(effect) == name)

    def share(self, name: str) -> float:
        """Give a part's share of the variance of the mean."""
        total = self.variance()
        return self.part(name) / total if total > 0 else math.nan

    def gain(self, **sizes: int) -> float:
        """Give by what share the standard error would fall with other numbers."""
        now = self.variance()
        return 1 - math.sqrt(self.variance(**sizes) / now) if now > 0 else math.nan

    @property
    def se(self) -> float:
        """Give the standard error of the mean."""
        return math.sqrt(self.variance())

    def _of(self, effect: Effect, sizes: Mapping[str, int]) -> float:
        return self.components[effect] / math.prod(sizes.get(a, self.sizes[a]) for a in effect)

    def _home(self, effect: Effect) -> str:
        varying = effect - {PROMPT}
        if len(varying) == 2 or (len(effect) == 2 and self.sizes[SAMPLING] == 1):
            return "residual"
        return next(iter(varying), PROMPT)


def components(table: Array) -> dict[Effect, float]:
    """Estimate the variance of every effect in a crossed table [fits, seeds, prompts].

    Axes of length one vary nothing and are left out.  What depends on all axes is the error.
    """
    axes = [(name, i) for i, name in enumerate(AXES) if table.shape[i] > 1]
    effects = [
        frozenset(name for name, _ in chosen)
        for size in range(1, len(axes) + 1)
        for chosen in combinations(axes, size)
    ]
    place, total = dict(axes), table.size

    def cells(effect: Effect) -> int:
        return math.prod(table.shape[place[name]] for name in effect)

    def mean(effect: Effect) -> Array:
        away = tuple(i for i in range(3) if i not in {place[name] for name in effect})
        return np.asarray(table.mean(axis=away, keepdims=True))

    found: dict[Effect, float] = {}
    for effect in reversed(effects):  # the error first, then what is on top of it
        below = [frozenset(c) for n in range(len(effect) + 1) for c in combinations(effect, n)]
        signs = ((-1.0) ** (len(effect) - len(one)) * mean(one) for one in below)
        deviation = sum(signs, np.zeros(()))
        freedom = math.prod(table.shape[place[name]] - 1 for name in effect)
        square = total / cells(effect) * float((deviation**2).sum()) / freedom
        above = sum(total / cells(one) * value for one, value in found.items() if one > effect)
        found[effect] = (square - above) * cells(effect) / total
    noise = ROUNDING * float((table**2).mean())
    return {effect: found[effect] if found[effect] > noise else 0.0 for effect in effects}


def split(comparison: Comparison, row: Row) -> Split | str:
    """Split one row's mean difference to the reference; or say why it cannot be."""
    reference = comparison.cell.reference
    if reference is None or not comparison.headline:
        return "nothing to compare with"
    if row.items != reference.items:
        return "items differ"
    even = judged(comparison.headline) and comparison.headline not in reference.scorers
    floors = {run.seed: run for run in reference.runs}
    runs = {(run.fit, run.seed): run for run in row.runs}
    fits = sorted({fit for fit, _ in runs})
    seeds = sorted({seed for _, seed in runs})
    if len(fits) * len(seeds) == 1:
        return "one run"
    if len(runs) < len(fits) * len(seeds):
        return f"{len(runs)} of {len(fits)} × {len(seeds)} runs of its fits and seeds"
    if not even and not set(seeds) <= set(floors):
        return "seeds that the reference was not run under"
    keys = row.answered

    def column(run: Run) -> Array:
        scores = run.scores.get(comparison.headline)
        return np.full(len(keys), np.nan) if scores is None else scores.column(keys)

    values = np.array([[column(runs[fit, seed]) for seed in seeds] for fit in fits])
    values -= 0.5 if even else np.array([column(floors[seed]) for seed in seeds])
    there = ~np.isnan(values).any(axis=(0, 1))
    names, codes = np.unique(np.asarray(row.clusters, dtype=str)[there], return_inverse=True)
    if len(names) < 2:
        return "fewer than two prompts that every run has a value for"
    whole = values[:, :, there]
    mean = float(whole.mean())
    counts = cluster_counts(whole[0, 0], codes, len(names))
    table = np.array([[cluster_sums(v, codes, len(names)) for v in line] for line in whole])
    table = mean + (table - mean * counts) / counts.mean()  # so that large clusters weigh more
    sizes = dict(zip(AXES, table.shape, strict=True))
    learns = any(run.fit for run in row.runs)
    left = len(keys) - int(there.sum())
    return Split(sizes, components(table), mean, int(there.sum()), left, learns)
