"""Two rows on the prompts that both answered: what each said, how each was scored, who is ahead."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.conduct import store
from harness.errors import PlumblineError, unknown
from harness.records import Json
from harness.report.comparison import choose_headline, judged
from harness.report.frames import REFERENCE, Cell, Row, Run, Seen, read_cell, read_run
from harness.report.statistics import (
    Array,
    Contrast,
    Estimate,
    bootstrap,
    cluster_sums,
    identity_seed,
    sign_flip_p,
)
from harness.report.terms import choose_terms
from harness.report.trust import is_opponent, kind_in
from harness.report.verdicts import Kind, strict_test


@dataclass(frozen=True)
class Side:
    """One row of a duel with what it said.

    texts  answer by seed and (prompt, turn).
    """

    row: Row
    texts: Mapping[Seen, str]


@dataclass(frozen=True)
class Contest:
    """Two rows by one scorer, on the answers for which both have a value.

    difference  mean of A less mean of B, clusters resampled.
    p, test     of the difference; of a judge, of strict wins.
    a, b        values by ``Duel.seen``; NaN where there is none.
    kinds       of a judge: the verdicts on A and on B; where one of the two is what the other
                was compared with (``direct``), its own are the other's, turned round.
    """

    scorer: str
    difference: Estimate
    p: float
    test: str
    a: Array
    b: Array
    kinds: tuple[tuple[Kind | None, Kind | None], ...] = ()
    direct: bool = False

    def count(self, kind: Kind) -> int:
        """Count the verdicts of a kind on A."""
        return sum(mine == kind for mine, _ in self.kinds)


@dataclass(frozen=True)
class Duel:
    """Two rows on one benchmark.

    seen      seed and (prompt, turn) that both answered; alone: answered by one only.
    headline  the scorer that decides, or "" where they share none.
    prompts   prompt id -> its stored line.
    """

    benchmark: str
    a: Side
    b: Side
    seen: tuple[Seen, ...]
    alone: int
    headline: str
    prompts: Mapping[str, Mapping[str, Json]]
    contests: Mapping[str, Contest] = field(default_factory=dict)

    @property
    def judges(self) -> list[str]:
        """Name the scorers that are win rates."""
        return [scorer for scorer in self.contests if judged(scorer)]

    @cached_property
    def clusters(self) -> list[str]:
        """Give the cluster of each answer."""
        return clusters_of(self.a.row, self.seen)


def find(results: Path, protocol: str, name: str, hash: str | None = None) -> dict[str, Row]:
    """Find a row by its label (in the tables of a protocol) or by its run's folder.

    Gives it by benchmark; raises PlumblineError where there is none.
    """
    folder = Path(name)
    if os.path.isfile(folder / "spec.json"):  # False too for a label too long to be a path
        if not (folder / "done").exists():
            raise PlumblineError(f"{folder} is not finished; the same bench command goes on")
        run = read_run(folder)
        return {run.spec["benchmark"]: Row(run.spec["method"], (run,))}
    if "/" in name and os.path.isdir(folder):
        raise PlumblineError(f"{folder} is no run folder: it has no spec.json")
    terms = choose_terms(results, protocol, hash)
    found, labels = dict[str, Row](), set[str]()
    for benchmark in terms.benchmarks:
        for row in read_cell(benchmark).rows:
            if row.runs:
                labels.add(row.label)
                if row.label == name:
                    found[benchmark.name] = row
    if not found:
        raise unknown(f"row of protocol {protocol}", name, labels)
    return found


def duels(first: Mapping[str, Row], second: Mapping[str, Row], only: str = "") -> list[Duel]:
    """Hold two rows against each other on every benchmark that both ran.

    Raises PlumblineError where there is none, or where they answered unlike prompts.
    """
    shared = [name for name in first if name in second and only in ("", name)]
    if not shared:
        raise PlumblineError(
            f"the two rows share no benchmark{f' called {only!r}' if only else ''}: A ran "
            f"{', '.join(first)}; B ran {', '.join(second)}"
        )
    return [duel(name, first[name], second[name]) for name in shared]


def duel(benchmark: str, first: Row, second: Row) -> Duel:
    """Hold two rows against each other on one benchmark."""
    a, b = _side(first), _side(second)
    prompts, theirs = _prompts(first), _prompts(second)
    for name in set(prompts) & set(theirs):
        if prompts[name].get("chat") != theirs[name].get("chat"):
            raise PlumblineError(
                f"the two rows were asked unlike questions under the name {name!r} of {benchmark}"
            )
    seen = tuple(sorted(set(a.texts) & set(b.texts)))
    if not seen:
        raise PlumblineError(f"the two rows share no answered prompt of {benchmark}")
    alone = len(set(a.texts) ^ set(b.texts))
    headline = choose_headline(Cell(benchmark, (first, second)))
    clusters = clusters_of(first, seen)
    shared = sorted(first.scorers & second.scorers - {"kl"}, key=lambda s: (s != headline, s))
    contests = {s: _contest(s, first, second, seen, clusters) for s in shared}
    return Duel(benchmark, a, b, seen, alone, headline, prompts, contests)


def clusters_of(row: Row, seen: Sequence[Seen]) -> list[str]:
    """Give the cluster of each answer of a row."""
    cluster = dict(zip(row.answered, row.clusters, strict=True))
    return [cluster[key] for _, key in seen]


def contrast(a: Array, b: Array, clusters: Sequence[str]) -> Estimate:
    """Estimate the mean difference of paired values."""
    seed = identity_seed("duel", *sorted(set(clusters)))
    return bootstrap([Contrast(a[None], b[None])], clusters, seed=seed)[0]


def by_category(duel: Duel) -> dict[str, Estimate]:
    """Give the headline's difference within each category, greatest first."""
    contest = duel.contests[duel.headline]
    names = [str(duel.prompts[key[0]].get("category") or "") for _, key in duel.seen]
    found = {}
    for name in sorted(set(names) - {""}):
        here = np.array([one == name for one in names])
        clusters = [c for c, inside in zip(duel.clusters, here, strict=True) if inside]
        found[name] = contrast(contest.a[here], contest.b[here], clusters)
    return dict(sorted(found.items(), key=lambda item: -abs(np.nan_to_num(item[1].value))))


def flips(duel: Duel, scorer: str) -> list[int]:
    """Find the answers on which a judge sees the two rows differently.

    Where it compared the two with each other, those that go against the majority.
    """
    contest = duel.contests[scorer]
    if contest.direct:
        minority = "lost" if contest.count("won") >= contest.count("lost") else "won"
        return [i for i, (a, _) in enumerate(contest.kinds) if a == minority]
    return [i for i, (a, b) in enumerate(contest.kinds) if a and b and a != b]


def furthest(duel: Duel) -> list[int]:
    """Order the answers by how far the two rows lie apart on the headline."""
    contest = duel.contests[duel.headline]
    apart = np.abs(contest.a - contest.b)
    known = [i for i in range(len(duel.seen)) if not math.isnan(apart[i])]
    return sorted(known, key=lambda i: (-apart[i], i))


def _contest(
    scorer: str, first: Row, second: Row, seen: Sequence[Seen], clusters: Sequence[str]
) -> Contest:
    ours, theirs = first.by_seed(scorer), second.by_seed(scorer)
    scores = [(ours.get(one), theirs.get(one)) for one in seen]
    a, b = (
        np.array([math.nan if s is None or s.value is None else s.value for s in side])
        for side in zip(*scores, strict=True)
    )
    difference = contrast(a, b, clusters)
    if judged(scorer):
        kinds = [(kind_in(x), kind_in(y)) for x, y in scores]
        direct = _opponent(first, scorer) or _opponent(second, scorer)
        if _opponent(second, scorer):
            kinds = [(mine, _turned(mine)) for mine, _ in kinds]
        elif direct:
            kinds = [(_turned(theirs), theirs) for _, theirs in kinds]
        won = [
            np.array([math.nan if k is None else float(k == "won") for k in side])
            for side in zip(*kinds, strict=True)
        ]
        p, test = strict_test(won[0], won[1], clusters)
        return Contest(scorer, difference, p, test, a, b, tuple(kinds), direct)
    names, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = cluster_sums(a - b, codes, len(names))[:, None]
    p = float(sign_flip_p(sums, seed=identity_seed("flips", *names))[0])
    return Contest(scorer, difference, p, "sign flips", a, b)


def _opponent(row: Row, scorer: str) -> bool:
    return row.label == REFERENCE and is_opponent(row, scorer)


def _turned(kind: Kind | None) -> Kind | None:
    """Give the verdict on the other side."""
    if kind == "won":
        return "lost"
    return "won" if kind == "lost" else kind


def _side(row: Row) -> Side:
    texts: dict[Seen, str] = {}
    for run in row.runs:
        seed = int(run.spec.get("seed") or 0)
        for response in store.responses(run.folder):
            texts.setdefault((seed, response.key), response.text)
    return Side(row, texts)


def _prompts(row: Row) -> dict[str, Mapping[str, Json]]:
    def lines(run: Run) -> list[dict[str, Json]]:
        return store.read_lines(run.folder / "prompts.jsonl")

    return {str(line["id"]): line for run in row.runs for line in lines(run)}
