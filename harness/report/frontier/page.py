"""The page of rows against the frontier: Markdown, LaTeX and CSV, and its figure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from harness.conduct import store
from harness.report.columns import MARKS, NONE, decimals, number, spread
from harness.report.fields import Record, interval_fields
from harness.report.frames import Cell
from harness.report.frontier.base_answers import read_base
from harness.report.frontier.estimator import ENOUGH, Frontier, divergence_bound
from harness.report.frontier.figure import draw
from harness.report.frontier.gaps import AT_KL, Gaps, Point, best_of_n, gaps, numbers
from harness.report.legend import MARK_LEGENDS
from harness.report.markup import (
    Block,
    Grid,
    Notes,
    Page,
    Picture,
    code,
    line,
    to_csv,
)
from harness.report.pages import write_page
from harness.report.statistics import Estimate

SIDES = {"is": "", "at least": "≥ ", "at most": "≤ "}
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the reach, where estimate and truth are compared


def write_frontier(results: Path, terms: str, cell: Cell, out: Path) -> list[Path]:
    """Write one benchmark's page from what is stored; nothing where no base answers are.

    terms  ``<protocol>-<hash>``.
    """
    base = read_base(results, terms, cell.benchmark)
    return [] if base is None else write(gaps(base, cell), out)


def write(found: Gaps, out: Path) -> list[Path]:
    """Write the page, its tables and its figure into a folder; give the paths, Markdown first."""
    stem = out / f"{found.base.spec['benchmark']}.frontier"
    pictures = draw(found, stem)
    page = _page(found, pictures[0])
    curve = stem.with_name(f"{stem.name}.curve.csv")
    store.write_text(curve, to_csv(_curve_records(found)))
    return [*write_page(stem, page, _records(found)), curve, *pictures]


def sentences(found: Gaps) -> list[str]:
    """Say in lines what the frontier is, who comes nearest, and how far the estimate is off."""
    lines = []
    for scorer in found.base.scorers:
        best, name = found.base.best(scorer), found.named(scorer)
        signs = {k: "" if best.exact or not k else SIDES["at least"] for k in (0.0, *AT_KL)}
        there = found.optimum[scorer]
        reads = [f"{k:g} nats {sign}{there[k][0].value:.3f}" for k, sign in signs.items()]
        lines.append(f"frontier of {name}: {', '.join(reads)} (read up to {best.reach:.2f} nats)")
        shares = {
            p.row.label: found.hypervolume(scorer, [p.row.label])
            for p in found.points[scorer]
            if p.kind != "none" and not {"control", "ceiling"} & set(p.row.marks)
        }
        if shares:
            label = max(shares, key=lambda row: shares[row])
            lines.append(f"largest share of its area in {name}: {label}, {shares[label]:.2f}")
    checked = checks(found)
    if checked:
        worst = max(checked, key=lambda one: abs(one.estimate.value - one.exact))
        lines.append(
            f"estimate against exact: {sum(c.covered for c in checked)} of {len(checked)} "
            f"intervals include it; largest error {worst.estimate.value - worst.exact:+.3f}"
        )
    return lines


# ------------------------------------------------------------------ the page


def _page(found: Gaps, picture: Path) -> Page:
    base = found.base
    title = str(base.spec.get("title") or base.spec["benchmark"])
    blocks: list[Block] = [Picture("reward against KL, with the frontier", picture.name)]
    blocks.append(_optimum(found))
    blocks += [_rows(found, scorer) for scorer in base.scorers if found.points[scorer]]
    if found.curves:
        blocks.append(_curves(found))
    if base.exact:
        blocks.append(_errors(found))
    blocks.append(_legend(found))
    if found.left_out:
        lines = [line(code(label), f": {why}") for label, why in sorted(found.left_out.items())]
        blocks.append(Notes("Not held against this frontier", tuple(lines)))
    intro = line(
        "How to read it: the further a method moves from the base model (KL, in nats), the more "
        "reward it can have; the frontier is the most that any policy can have at that KL. "
        "A row's gap is what it leaves: the frontier at the row's own KL less the row's reward, "
        "prompt by prompt. 95 % intervals in brackets are for a population of prompts."
    )
    return Page(str(base.spec.get("about") or title), f"{title}: reward against KL", (intro,),
                tuple(blocks))  # fmt: skip


def _optimum(found: Gaps) -> Grid:
    base = found.base
    header = ("reward", "0 nats", *(f"{k:g} nats" for k in AT_KL), "read up to")
    rows = []
    for scorer in base.scorers:
        there = found.optimum[scorer]
        places = decimals(e for _, e in there.values())
        cells = []
        for k in (0.0, *AT_KL):
            reading, estimate = there[k]
            sign = "" if base.best(scorer).exact or k == 0 else SIDES["at least"]
            how = " (best of n)" if reading.beyond else ""
            cells.append(line(sign + spread(estimate, places) + how))
        rows.append((line(found.named(scorer)), *cells,
                     line(f"{number(base.best(scorer).reach, 2)} nats")))  # fmt: skip
    how = "every answer listed" if base.exact else f"from {base.samples} base answers to each"
    title = f"The frontier of {len(base.prompts)} prompts, {how}"
    return Grid(title, header, tuple(rows))


def _rows(found: Gaps, scorer: str) -> Grid:
    points = found.points[scorer]
    rewards, gap = decimals(p.reward for p in points), decimals(p.gap for p in points)
    name = found.named(scorer)
    header = ("method", "KL", name, "gap", *(f"at {k:g} nats" for k in AT_KL), "hypervolume")
    rows = []
    for point in points:
        label = point.row.label
        marks = "".join(MARKS[m] for m in point.row.marks if m in MARKS)
        worth = [number(found.worth(scorer, [label], k), rewards) for k in AT_KL]
        rows.append(
            (
                line(f"{label} {marks}".strip()),
                line(point.far),
                line(spread(point.reward, rewards)),
                line(gap_text(point, gap)),
                *(line(text) for text in worth),
                line(number(found.hypervolume(scorer, [label]), 2)),
            )
        )
    return Grid(f"Rows by {name}", header, tuple(rows))


def gap_text(point: Point, places: int) -> str:
    """Give a row's gap with the side on which it is known, or a dash."""
    if math.isnan(point.gap.value):
        return NONE
    return SIDES[point.side] + spread(point.gap, places)


def _curves(found: Gaps) -> Grid:
    header = ("method", "values", "reward", *(f"at {k:g} nats" for k in AT_KL), "hypervolume")
    rows = []
    for curve in found.curves:
        for scorer in found.base.scorers:
            worth = [number(found.worth(scorer, curve.labels, k), 2) for k in AT_KL]
            volume = number(found.hypervolume(scorer, curve.labels), 2)
            values = ", ".join(f"{v:g}" for v in curve.values)
            rows.append(tuple(map(line, (curve.name, values, found.named(scorer), *worth, volume))))
    return Grid("Methods as curves over their strength", header, tuple(rows))


def _errors(found: Gaps) -> Grid:
    header = ("reward", "KL", "exact", "estimated", "error", "interval", "exact within")
    rows = []
    for one in checks(found):
        e = one.estimate
        texts = (
            found.named(one.scorer),
            number(one.kl, 2),
            number(one.exact, 3),
            number(e.value, 3),
            number(e.value - one.exact, 3, signed=True),
            f"[{number(e.low, 3)}, {number(e.high, 3)}]",
            "yes" if one.covered else "no",
        )
        rows.append(tuple(map(line, texts)))
    title = f"The estimate from {found.base.samples} base answers against the exact frontier"
    return Grid(title, header, tuple(rows))


@dataclass(frozen=True)
class Check:
    """The estimated frontier held against the exact one at one KL."""

    scorer: str
    kl: float
    exact: float
    estimate: Estimate

    @property
    def covered(self) -> bool:
        """Say whether the interval includes the exact value (to rounding)."""
        return self.estimate.low - 1e-9 <= self.exact <= self.estimate.high + 1e-9


def checks(found: Gaps) -> list[Check]:
    """Compare the estimate with the exact frontier; empty where that is not known."""
    return [
        Check(scorer, kl, exact.best(kl).value, estimated.best(kl).estimate)
        for scorer, exact in found.base.exact.items()
        for estimated in [found.base.estimated[scorer]]
        for kl in (share * estimated.reach for share in SHARES)
    ]


def _legend(found: Gaps) -> Notes:
    base, lines = found.base, []
    if not base.exact:
        ends = ", ".join(
            f"{found.named(s)} {number(best.best(best.reach).bias, 3)}"
            for s, best in base.estimated.items()
        )
        lines += [
            line(
                "≥ in the frontier: every value is a lower bound of the optimum. It is read off "
                "importance weights for as long as the harmonic mean over prompts of the "
                f"effective sample size is {ENOUGH:g} or more (the estimate is too low by about a "
                "mean over prompts of 1/ESS, so the rule is about that mean); at that end it is "
                f"too low by about: {ends}. Further out, best of n from the same answers, at its "
                "KL bound, is what is known. The band in the figure is a 95 % interval for these "
                "very prompts: which base answers were drawn, and one better answer that was not."
            )
        ]
    share = "" if base.exact else ", of which a lower bound is known: more than 1 is possible"
    lines += [
        line(
            code("gap"),
            ": the frontier at the row's own mean KL less the row's mean reward. ≥: the frontier "
            "is at least that high there; ≤: the row's KL is only bounded; a dash: the row has no "
            "KL of its own, or neither side is known.",
        ),
        line(
            code("at 2, 4, 8 nats"),
            ": the best mean reward among the points of a row, or of a curve, whose KL is at most "
            "that; nothing is read between points, and a curve's best point is chosen by the "
            "rewards shown.",
        ),
        line(
            code("hypervolume"),
            f": area above the base model's reward up to {AT_KL[-1]:g} nats, every point a step "
            f"from its KL on, as a share of the frontier's own area{share}.",
        ),
        line(
            "First turns only. Base answers are plain samples at temperature 1; rows whose "
            "answers are drawn otherwise have no KL here."
        ),
    ]
    present = {m for points in found.points.values() for p in points for m in p.row.marks}
    lines += [line(f"{MARKS[m]}: {MARK_LEGENDS[m]}") for m in MARKS if m in present]
    for scorer in base.scorers:
        if missing := base.missing(scorer):
            lines.append(line(f"{found.named(scorer)} gave no number for {missing} base answers"))
    return Notes("Legend", tuple(lines))


# ------------------------------------------------------------------ the records


def _records(found: Gaps) -> list[Record]:
    base, lines = found.base, []
    benchmark = str(base.spec["benchmark"])
    for scorer in base.scorers:
        for point in found.points[scorer]:
            label = point.row.label
            lines.append(
                {
                    "benchmark": benchmark,
                    "method": label,
                    "reward": scorer,
                    "kl_kind": point.kind,
                    **interval_fields("kl", point.kl),
                    **interval_fields("value", point.reward),
                    "frontier": point.best,
                    **interval_fields("gap", point.gap),
                    "gap_is": point.side,
                    **{f"at_{k:g}_nats": found.worth(scorer, [label], k) for k in AT_KL},
                    "hypervolume": found.hypervolume(scorer, [label]),
                    "prompts": len(base.prompts),
                    "samples": base.samples,
                    "exact": base.best(scorer).exact,
                    "protocol_hash": base.spec["protocol_hash"],
                }
            )
    return lines or [{"benchmark": benchmark, "method": ""}]


def _curve_records(found: Gaps) -> list[Record]:
    """Give every point of every line in the figure that is no row."""
    lines: list[Record] = []
    for scorer in found.base.scorers:
        estimated = found.base.estimated[scorer]
        lines += _tilts("estimated", scorer, estimated)
        if scorer in found.base.exact:
            lines += _tilts("exact", scorer, found.base.exact[scorer])
        for n, value in zip(numbers(estimated), best_of_n(estimated), strict=True):
            kl = divergence_bound(n)
            lines.append({"line": "best of n", "reward": scorer, "n": n, "kl": kl, "value": value})
    return lines


def _tilts(what: str, scorer: str, frontier: Frontier) -> list[Record]:
    lines: list[Record] = []
    for tilted, estimate in zip(frontier.curve, frontier.band, strict=True):
        kl = float(tilted.kl.mean())
        record: Record = {"line": what, "reward": scorer, "strength": tilted.strength, "kl": kl}
        record |= {"value": float(tilted.reward.mean()), "effective_samples": tilted.effective}
        if tilted.other is not None:
            record["gold"] = float(tilted.other.mean())
        if not frontier.exact:
            record |= {"low": estimate.low, "high": estimate.high}
        lines.append(record)
    return lines
