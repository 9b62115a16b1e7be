"""The page and the file of a duel: differences, flips with both answers, where they part most."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.conduct import store
from harness.report.columns import EVEN, NONE, decimals, number, spread
from harness.report.comparison import judged
from harness.report.duel import Duel, by_category, flips, furthest
from harness.report.fields import Record, interval_fields
from harness.report.markup import (
    Block,
    Grid,
    Line,
    Notes,
    Page,
    bold,
    code,
    line,
    plain,
    to_csv,
    to_markdown,
)
from harness.report.statistics import Estimate
from harness.report.verdicts import KINDS

SHOWN = 12  # flips, and widest gaps, shown with both answers; the CSV has all
LONGEST = 500  # characters of a text on the page; the CSV has it whole
LONGEST_NAME = 80  # characters of a label in a file's name
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would read as a formula


def write(duels: Sequence[Duel], out: Path) -> list[Path]:
    """Write the CSV and the Markdown of a comparison; the Markdown last."""
    a, b = duels[0].a.row.label, duels[0].b.row.label
    stem = f"{_file(a)}--{_file(b)}"
    if len(duels) == 1:
        stem += f"--{duels[0].benchmark}"
    records = [record for duel in duels for record in _records(duel)]
    texts = {".csv": to_csv(records), ".md": to_markdown(page(duels))}
    paths = []
    for suffix, text in texts.items():
        path = out / (stem + suffix)
        store.write_text(path, text)
        paths.append(path)
    return paths


def page(duels: Sequence[Duel]) -> Page:
    """Lay out a comparison of two rows."""
    a, b = duels[0].a.row.label, duels[0].b.row.label
    spec = duels[0].a.row.spec
    blocks: list[Block] = [_differences(duels)]
    for duel in duels:
        blocks += _benchmark(duel)
    intro = line(
        "How to read it: A is ", code(a), ", B is ", code(b), "; a difference is A less B, on the "
        "answers that both gave, with its 95 % interval (single comparisons, not a family), in "
        f"bold where that leaves zero out, {EVEN} where it does not."
    )  # fmt: skip
    return Page(str(spec.get("about") or "Two rows"), f"{a} beside {b}", (intro,), tuple(blocks))


def sentence(duel: Duel) -> str:
    """Say in a line who is ahead."""
    if not duel.headline:
        return f"{duel.benchmark}  no headline in common; {len(duel.seen)} answers in common"
    contest = duel.contests[duel.headline]
    text = spread(contest.difference, decimals([contest.difference]), signed=True)
    flipped = [_told(duel, judge) for judge in duel.judges]
    parts = [
        duel.benchmark,
        f"A − B on {duel.headline}: {text}",
        f"p {_p(contest.p)} ({contest.test})",
        *flipped,
        f"n={len(duel.seen)}",
    ]
    return "  ".join(parts)


def _differences(duels: Sequence[Duel]) -> Grid:
    rows = []
    for duel in duels:
        for scorer, contest in duel.contests.items():
            there = ~(contest.a != contest.a) & ~(contest.b != contest.b)
            count = int(there.sum())
            places = decimals([contest.difference])
            means = [number(v[there].mean() if count else math.nan, places)
                     for v in (contest.a, contest.b)]  # fmt: skip
            name = f"{scorer} (headline)" if scorer == duel.headline else scorer
            rows.append(
                (
                    line(f"{duel.benchmark}: {name}"),
                    line(means[0]),
                    line(means[1]),
                    _cell(contest.difference, places),
                    line(_p(contest.p)),
                    line(contest.test),
                    line(str(count)),
                )
            )
    header = ("measure", "A", "B", "difference", "p", "test", "answers")
    return Grid("Differences", header, tuple(rows))


def _benchmark(duel: Duel) -> list[Block]:
    title = str(duel.a.row.spec.get("title") or duel.benchmark)
    blocks: list[Block] = []
    if duel.alone:
        text = f"{duel.alone} answers of one row only have no partner and are left out"
        blocks.append(Notes(f"{title}: left out", (line(text),)))
    if duel.headline:
        groups = by_category(duel)
        if groups:
            places = decimals(groups.values())
            rows = tuple(
                (line(name), _cell(e, places), line(str(e.n))) for name, e in groups.items()
            )
            blocks.append(
                Grid(f"{title}: by category", ("category", "difference", "answers"), rows)
            )
    for judge in duel.judges:
        blocks += _judge(duel, judge, title)
    if duel.headline and not judged(duel.headline):
        lines = [part for i in furthest(duel)[:SHOWN] for part in _case(duel, i)]
        name = f"{title}: widest apart on {duel.headline}"
        blocks.append(Notes(name, tuple(lines)))
    return blocks


def _judge(duel: Duel, judge: str, title: str) -> list[Block]:
    """Cross the verdicts on A with those on B, and show the flips."""
    name = judge.partition("@")[2]
    counts = Counter(duel.contests[judge].kinds)
    kinds = (*KINDS, None)
    rows = tuple(
        (line(_kind(mine)), *(line(str(counts[mine, theirs])) for theirs in kinds))
        for mine in kinds
    )
    header = ("A \\ B", *(_kind(kind) for kind in kinds))
    grid = Grid(f"{title}: verdicts by {name} on A (down) and on B (across)", header, rows)
    contest = duel.contests[judge]
    if contest.direct:
        header = ("", *(_kind(kind) for kind in kinds))
        one = tuple(line(str(sum(a == kind for a, _ in contest.kinds))) for kind in kinds)
        grid = Grid(f"{title}: A against B by {name}", header, ((line("A"), *one),))
    found = sorted(flips(duel, judge), key=lambda i: (-abs(contest.a[i] - contest.b[i]), i))
    lines = [part for i in found[:SHOWN] for part in _case(duel, i)]
    said = f"{title}: {_told(duel, judge)}"
    if len(found) > SHOWN:
        said += f", the widest {SHOWN}"
    return [grid, Notes(said, tuple(lines) or (line("none"),))]


def _told(duel: Duel, judge: str) -> str:
    found, name = len(flips(duel, judge)), judge.partition("@")[2]
    contest = duel.contests[judge]
    if not contest.direct:
        return f"{found} flips by {name}"
    side = "A" if contest.count("won") < contest.count("lost") else "B"
    return f"{found} answers on which {name} prefers {side}, the one it prefers less often"


def _case(duel: Duel, i: int) -> list[Line]:
    """Show one prompt: the question, then each answer with its verdicts."""
    seed, (prompt, turn) = duel.seen[i]
    where = f"{prompt}, turn {turn + 1}" + (f", seed {seed}" if seed else "")
    lines = [line(bold(where), ": ", _short(_question(duel, i)))]
    for side, letter in ((duel.a, "A"), (duel.b, "B")):
        scores = [
            f"{scorer} {_said(duel, scorer, i, letter)}"
            for scorer in duel.contests
            if judged(scorer) or scorer == duel.headline
        ]
        text = side.texts[duel.seen[i]]
        lines.append(line(bold(f"{letter} ({'; '.join(scores)})"), ": ", _short(text)))
    return lines


def _records(duel: Duel) -> list[Record]:
    """Give one record an answer, with everything about both sides."""
    records = []
    apart = duel.contests[duel.headline] if duel.headline else None
    for i, (seed, (prompt, turn)) in enumerate(duel.seen):
        record: Record = {
            "benchmark": duel.benchmark,
            "prompt": prompt,
            "turn": turn,
            "seed": seed,
            "category": duel.prompts[prompt].get("category") or "",
            "headline": duel.headline,
            "difference": float(apart.a[i] - apart.b[i]) if apart else math.nan,
        }
        for scorer, contest in duel.contests.items():
            record |= {f"{scorer}_A": float(contest.a[i]), f"{scorer}_B": float(contest.b[i])}
            if contest.kinds:
                mine, theirs = contest.kinds[i]
                flip = mine is not None and theirs is not None and mine != theirs
                record |= {f"{scorer}_verdict_A": mine or "", f"{scorer}_verdict_B": theirs or ""}
                record[f"{scorer}_flip"] = int(flip)
        texts = {"question": _question(duel, i)}
        texts |= {"answer_A": duel.a.texts[duel.seen[i]], "answer_B": duel.b.texts[duel.seen[i]]}
        records.append(record | {name: _harmless(text) for name, text in texts.items()})
    for scorer, contest in duel.contests.items():
        records.append(
            {"benchmark": duel.benchmark, "prompt": "(all)", "headline": scorer}
            | interval_fields("difference", contest.difference)
            | {"p": contest.p, "test": contest.test}
        )
    return records


def _question(duel: Duel, i: int) -> str:
    _, (prompt, turn) = duel.seen[i]
    stored = duel.prompts[prompt]
    turns = [m["content"] for m in stored.get("chat") or [] if m.get("role") == "user"][-1:]
    turns += list(stored.get("turns") or [])
    return str(turns[turn]) if turn < len(turns) else ""


def _said(duel: Duel, scorer: str, i: int, letter: str) -> str:
    contest = duel.contests[scorer]
    if contest.kinds:
        return _kind(contest.kinds[i][letter == "B"])
    return number(float((contest.b if letter == "B" else contest.a)[i]), 2)


def _kind(kind: str | None) -> str:
    return kind or "no verdict"


def _cell(estimate: Estimate, places: int) -> Line:
    text = spread(estimate, places, signed=True)
    if estimate.excludes_zero:
        return line(bold(text))
    return line(text if math.isnan(estimate.low) else f"{text} {EVEN}")


def _p(p: float) -> str:
    if math.isnan(p):
        return NONE
    return "≤ 0.0001" if p <= 1e-4 else number(p, 4)


def _short(text: str) -> str:
    cleaned = plain(text)
    left = len(cleaned) - LONGEST
    return cleaned if left <= 0 else f"{cleaned[:LONGEST]} … ({left} characters more)"


def _harmless(text: str) -> str:
    """Keep a spreadsheet from reading a model's words as a formula."""
    return f"'{text}" if plain(text).startswith(FORMULA) else text


def _file(label: str) -> str:
    name = re.sub(r"[^A-Za-z0-9.=+-]+", "_", label).strip("_.") or "row"
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}-{store.digest(label)}"
