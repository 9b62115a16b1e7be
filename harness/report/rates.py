"""What an answer and a fit cost, read off finished runs, and a guess for those nobody has run.

A rate is looked up in this order: the row itself on this benchmark; the row on other
benchmarks, by what ``unsteered`` costs here and there; the row's parts; the same methods with
other fields.  The guess says which of them it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness.report.frames import REFERENCE

ANSWER, FIT = "answer", "fit"

Amounts = Mapping[str, float]


@dataclass(frozen=True)
class Rate:
    """What one answer (or one fit) costs, in every phase.

    seconds  phase -> wall clock seconds.
    tokens   ``phase.role`` -> token positions through that model.
    """

    seconds: Amounts = field(default_factory=dict)
    tokens: Amounts = field(default_factory=dict)

    def times(self, seconds: float, tokens: float | None = None) -> Rate:
        """Give it so many times; ``tokens`` may be another number than ``seconds``."""
        count = seconds if tokens is None else tokens
        return Rate(
            {k: v * seconds for k, v in self.seconds.items()},
            {k: v * count for k, v in self.tokens.items()},
        )

    @property
    def total(self) -> float:
        """Give the seconds of all phases."""
        return sum(self.seconds.values())

    def by_role(self) -> dict[str, float]:
        """Give tokens through each model, phases added up."""
        out: dict[str, float] = {}
        for name, count in self.tokens.items():
            role = name.partition(".")[2]
            out[role] = out.get(role, 0.0) + count
        return out


@dataclass(frozen=True)
class Measured:
    """A line of the table of rates.

    kind       "answer" or "fit".
    benchmark  whose answers; of a fit, whose prompts it read, or "".
    row        the row's label, without a word on how its fields were chosen.
    count      answers, or fits, that the rate is the mean of.  A fit that reads prompts has the
               rate of one prompt.
    machine    device and threads it was measured on.
    """

    kind: str
    benchmark: str
    row: str
    rate: Rate
    count: int = 1
    machine: str = ""


@dataclass(frozen=True)
class Guess:
    """A rate and what it rests on; None and the reason where nothing is known."""

    rate: Rate | None
    basis: str


class Rates:
    """Measured rates by kind, benchmark and row; of two of one name the later one stands."""

    def __init__(self, lines: Iterable[Measured] = ()) -> None:
        self.lines = {(line.kind, line.benchmark, line.row): line for line in lines}

    def under(self, other: Rates) -> Rates:
        """Give both, ``other`` standing above this one."""
        return Rates([*self.lines.values(), *other.lines.values()])

    def faster(self, factor: float) -> Rates:
        """Give the same rates on a machine that needs ``factor`` times as long."""
        return Rates(
            Measured(m.kind, m.benchmark, m.row, m.rate.times(factor, 1.0), m.count, m.machine)
            for m in self.lines.values()
        )

    def find(self, kind: str, benchmark: str, row: str) -> Rate | None:
        """Give what was measured."""
        line = self.lines.get((kind, benchmark, row))
        return line.rate if line else None

    def has(self, row: str) -> bool:
        """Say whether answers of this row were measured, on any benchmark."""
        return any(line.kind == ANSWER and line.row == row for line in self.lines.values())

    @property
    def rows(self) -> int:
        """Count rows, benchmark by benchmark."""
        return sum(line.kind == ANSWER for line in self.lines.values())

    def slower_than(self, other: Rates) -> float | None:
        """Say how many times as long as there an answer's decoding takes here.

        The median over what both have; None where that is nothing.
        """
        shared = []
        for key, line in self.lines.items():
            there = other.find(*key)
            ratio = _ratio(line.rate, there, lambda rate: rate.seconds.get("decode"))
            if line.kind == ANSWER and there and ratio:
                shared.append(ratio)
        return median(shared) if shared else None

    # ------------------------------------------------------------- guesses

    def answer(self, benchmark: str, parts: Sequence[str]) -> Guess:
        """Guess what an answer of the row made of these parts costs on a benchmark."""
        row = "+".join(parts)
        found = self.find(ANSWER, benchmark, row)
        if found:
            return Guess(found, "measured")
        found = self._elsewhere(benchmark, lambda line: line.row == row)
        if found:
            return Guess(found, "its rate on other benchmarks")
        if len(parts) > 1:
            each = [self.answer(benchmark, [part]) for part in parts]
            floor = self.answer(benchmark, [REFERENCE]).rate
            known = [guess.rate for guess in each if guess.rate]
            if floor and len(known) == len(parts):
                return Guess(_stacked(known, floor), "its parts")
            return Guess(None, "a part of it was never run")
        found = self._elsewhere(benchmark, lambda line: names(line.row) == names(row))
        if found:
            return Guess(found, "its rate with other fields")
        return Guess(None, "never run")

    def fit(self, benchmark: str, parts: Sequence[str]) -> Guess:
        """Guess what the last part's fit costs, behind those to its left.

        benchmark  whose prompts it reads, or "".
        """
        row, own = "+".join(parts), parts[-1]
        tries: list[tuple[str, Callable[[Measured], bool]]] = [
            ("measured", lambda m: m.row == row and m.benchmark == benchmark),
            ("its rate on other benchmarks", lambda m: m.row == row),
            ("its rate without its left", lambda m: m.row == own),
            ("its rate with other fields", lambda m: names(m.row)[-1] == names(own)[-1]),
        ]
        for basis, fits in tries:
            found = [m.rate for m in self.lines.values() if m.kind == FIT and fits(m)]
            if found:
                return Guess(mean(found), basis)
        return Guess(None, "never fitted")

    def _elsewhere(self, benchmark: str, wanted: Callable[[Measured], bool]) -> Rate | None:
        """Carry rates over from other benchmarks by the reference's own rates, and average."""
        here = self.find(ANSWER, benchmark, REFERENCE)
        carried = []
        for line in self.lines.values():
            if line.kind != ANSWER or not wanted(line):
                continue
            there = self.find(ANSWER, line.benchmark, REFERENCE)
            seconds = _ratio(here, there, lambda rate: rate.seconds.get("decode"))
            tokens = _ratio(here, there, lambda rate: rate.tokens.get("decode.policy"))
            carried.append(line.rate.times(seconds or 1.0, tokens or 1.0))
        return mean(carried) if carried else None


def names(row: str) -> tuple[str, ...]:
    """Name a row's methods without their fields, whatever the fields' texts hold."""
    found, depth = [""], 0
    for char in row:
        depth += (char == "(") - (char == ")" and depth > 0)
        if char == "+" and not depth:
            found.append("")
        elif not depth and char != ")":
            found[-1] += char
    return tuple(found)


def mean(rates: Sequence[Rate]) -> Rate:
    """Average rates; a phase that some do not have counts as nothing there."""
    total = Rate()
    for rate in rates:
        total = added(total, rate)
    return total.times(1 / len(rates)) if rates else total


def added(a: Rate, b: Rate) -> Rate:
    """Add two rates, phase by phase."""

    def both(mine: Amounts, theirs: Amounts) -> dict[str, float]:
        return {k: mine.get(k, 0.0) + theirs.get(k, 0.0) for k in {**mine, **theirs}}

    return Rate(both(a.seconds, b.seconds), both(a.tokens, b.tokens))


def completed(rate: Rate, known: Rates, *, kl: bool) -> Rate:
    """Add to what decoding costs what scoring, and KL where it is measured, cost of other rows."""
    others = [line.rate for line in known.lines.values() if line.kind == ANSWER]
    seconds, tokens = dict(rate.seconds), dict(rate.tokens)

    def usual(amounts: list[Amounts], name: str) -> float | None:
        found = [one[name] for one in amounts if one.get(name)]
        return median(found) if found else None

    if (scoring := usual([o.seconds for o in others], "score")) is not None:
        seconds["score"] = scoring
    for name in {n for other in others for n in other.tokens if n.startswith("score.")}:
        tokens[name] = usual([o.tokens for o in others], name) or 0.0
    moved = [o.seconds for o in others if o.seconds.get("decode") and o.tokens.get("kl.policy")]
    if kl and moved and "decode" in seconds:
        seconds["kl"] = seconds["decode"] * median(one["kl"] / one["decode"] for one in moved)
        tokens["kl.policy"] = 2 * tokens.get("decode.policy", 0.0)  # with and without the method
    return Rate(seconds, tokens)


def _ratio(
    here: Rate | None, there: Rate | None, of: Callable[[Rate], float | None]
) -> float | None:
    """Divide one amount of two rates; None where either has none."""
    mine, theirs = of(here) if here else None, of(there) if there else None
    return mine / theirs if mine and theirs else None


def _stacked(parts: Sequence[Rate], floor: Rate) -> Rate:
    """Multiply what parts cost in decoding over the reference; KL is lost with one search."""

    def product(amounts: Sequence[Amounts], base: Amounts, name: str) -> float:
        out = base.get(name, 0.0)
        for one in amounts:
            out *= one.get(name, 0.0) / base[name] if base.get(name) else 1.0
        return out

    seconds = {
        "decode": product([p.seconds for p in parts], floor.seconds, "decode"),
        "score": max(p.seconds.get("score", 0.0) for p in parts),
    }
    tokens: dict[str, float] = {}
    for name in {name for part in parts for name in part.tokens}:
        each = [part.tokens.get(name, 0.0) for part in parts]
        inside = name in floor.tokens and name.startswith("decode")
        tokens[name] = (
            product([p.tokens for p in parts], floor.tokens, name)
            if inside
            else sum(each)
            if name.startswith("decode")
            else max(each)
        )
    if all("kl" in part.seconds for part in parts):
        seconds["kl"] = max(part.seconds["kl"] for part in parts)
    else:
        tokens = {k: v for k, v in tokens.items() if not k.startswith("kl.")}
    return Rate(seconds, tokens)
