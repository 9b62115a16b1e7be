"""Score against budget: how good the best of k trials is to be expected, method by method.

    E_k = sum_{i=k..n} C(i-1, k-1) / C(n, k) x_(i)

x_(1) <= ... <= x_(n) are the scores of the n settings tried: the mean of the best when k of them
are drawn without replacement, exactly (Dodge et al., "Show your work", 2019, draw with
replacement).  A setting that failed, or lies beyond the KL cap, counts as the worst that did not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.conduct import store
from harness.report.figures import folded, legible, on_paper, save
from harness.report.markup import to_csv


@dataclass(frozen=True)
class Spent:
    """One method's tuning.

    scores    one per setting tried; None where it failed or does not count.
    expected  expected best of 1, 2, ... settings.
    """

    method: str
    objective: str
    trials: int
    scores: tuple[float | None, ...]
    expected: tuple[float, ...]
    seconds: float
    tokens: int


def expected_best(scores: Sequence[float]) -> list[float]:
    """Give the expected largest of k scores drawn without replacement, for k = 1 ... n."""
    ordered, n = sorted(scores), len(scores)
    return [
        math.fsum(math.comb(i, k - 1) * x for i, x in enumerate(ordered)) / math.comb(n, k)
        for k in range(1, n + 1)
    ]


def read(folder: Path) -> Spent | None:
    """Read one tuning's folder; None where no setting of it counts."""
    found = store.read_json(folder / "tuned.json")
    known = [score for score in found["scores"] if score is not None]
    if not known:
        return None
    worst = min(known)
    return Spent(
        found["method"],
        found["objective"],
        found["trials"],
        tuple(found["scores"]),
        tuple(expected_best([worst if s is None else s for s in found["scores"]])),
        sum(found["ledger"]["seconds"].values()),
        sum(found["ledger"]["tokens"].values()),
    )


def write(folders: Sequence[Path]) -> list[Path]:
    """Write CSV, SVG and PNG of the tunings that can be held against the first of these.

    Every tuning under the same terms counts that had the same objective and the same prompts;
    of two of one method the newer one.  The PNG comes last; nothing where nothing counts.
    """
    terms = folders[0].parents[1]
    first = store.read_json(folders[0] / "tuned.json")
    alike = ("objective", "asked")
    found: dict[str, Spent] = {}
    for file in sorted(terms.glob("*/*/tuned.json"), key=lambda f: (f.stat().st_mtime, str(f))):
        told = store.read_json(file)
        if all(told[name] == first[name] for name in alike) and (spent := read(file.parent)):
            found[spent.method] = spent
    if not found:
        return []
    curves = [found[name] for name in sorted(found)]
    name = f"{store.plain(first['objective'])}-{first['prompts']}-prompts"
    stem = terms.parents[1] / "budgets" / terms.name / name
    csv = stem.with_name(stem.name + ".csv")
    store.write_text(csv, to_csv(_records(curves)))
    png, svg = _draw(curves, first["prompts"], stem)
    return [csv, svg, png]


def _records(curves: Sequence[Spent]) -> list[dict[str, object]]:
    return [
        {
            "method": one.method,
            "objective": one.objective,
            "trials": one.trials,
            "settings": len(one.scores),
            "uncounted": sum(score is None for score in one.scores),
            "k": k,
            "expected_best": value,
            "seconds": one.seconds,
            "tokens": one.tokens,
        }
        for one in curves
        for k, value in enumerate(one.expected, 1)
    ]


def _draw(curves: Sequence[Spent], prompts: int, stem: Path) -> list[Path]:
    with on_paper():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, max(3.6, 0.22 * len(curves) + 0.8)), layout="constrained")
        panel = figure.subplots()
        for i, one in enumerate(curves):
            k = range(1, len(one.expected) + 1)
            label = folded(legible(one.method))
            dashes = ("-", "--", ":")[i // 10 % 3]  # ten colours, then the same ones dashed
            panel.plot(k, one.expected, f"o{dashes}", color=f"C{i % 10}", ms=3.5, label=label)
        longest = max(len(one.expected) for one in curves)
        panel.set_xticks(range(1, longest + 1, 1 + longest // 12))
        panel.set_xlabel("settings tried")
        panel.set_ylabel("expected best mean reward")
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, fontsize=8, loc="outside center right")
        said = f"{curves[0].objective} on {prompts} development prompts"
        figure.suptitle(legible(f"What more tuning brings: {said}"), size=10)
        return save(figure, stem)
