"""What a command would run, and how long that would take; nothing of it is run.

Rates come from the finished runs of the same protocol in the results folder.  For rows that
were never run there they come from the rates that lie beside the protocol, measured on another
machine.  How fast this machine is, and what rows cost that learn nothing and are in neither, is
tried out on a few prompts, where that takes no download and no building of a world.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.conduct import plugins, store
from harness.conduct.forecast import trying
from harness.conduct.forecast.planned import Planned, built, parts_of, plan
from harness.conduct.runner import Order
from harness.conduct.running import skip_reason
from harness.conduct.setting import Setting
from harness.conduct.tuning.tuned import Fields, rows
from harness.contracts.budget import Chosen
from harness.contracts.method import Stack
from harness.errors import PlumblineError
from harness.report.frames import REFERENCE
from harness.report.rate_sources import from_table, read_runs
from harness.report.rates import (
    ANSWER,
    FIT,
    Guess,
    Measured,
    Rate,
    Rates,
    added,
    completed,
    names,
)
from harness.report.terms import choose_terms

if TYPE_CHECKING:
    from harness.conduct.tuning.search import Plan

# Seconds that are in no ledger, as they were on the machine of the testbed's own rates.
START = 12.0  # imports, models, training pairs
CELL = 0.6  # a run's files and its summary
TABLES = 0.4  # a row of a benchmark in tables and figures

STEADY = 1.25  # as far as a short trial is off by itself
ALIKE = 1.5  # one batch, alone on its machine, is off by as much from a run beside another
TRIES = 60.0  # seconds; rows that were not tried by then are guessed
DEFAULT = "testbed"  # its rates stand in, relative to unsteered, for protocols without their own

Say = Callable[[str], None]


@dataclass(frozen=True)
class Forecast:
    """What a command would cost.

    lines    what is planned, in the order it would be run.
    guesses  what one answer, or one fit, of each line costs, and what that rests on.
    notes    where the rates are from.
    pace     how many times as long this machine takes as the one of the packaged rates.
    busy     how many times as long a trial took because others kept the processors busy.
    """

    lines: tuple[Planned, ...]
    guesses: tuple[Guess, ...]
    notes: tuple[str, ...] = ()
    pace: float = 1.0
    busy: float = 1.0

    def then(self, other: Forecast) -> Forecast:
        """Give what this command and then another would cost."""
        return Forecast(
            (*self.lines, *other.lines),
            (*self.guesses, *other.guesses),
            tuple(dict.fromkeys((*self.notes, *other.notes))),
            other.pace,
            max(self.busy, other.busy),
        )

    def cost(self, i: int) -> Rate:
        """Give what is left to do of one line; nothing where it is done or not known."""
        rate, line = self.guesses[i].rate, self.lines[i]
        return rate.times(line.left * line.share) if rate else Rate()

    @cached_property
    def total(self) -> Rate:
        """Add up all lines."""
        out = Rate()
        for i in range(len(self.lines)):
            out = added(out, self.cost(i))
        return out

    @property
    def seconds(self) -> float:
        """Give the whole command's wall clock: its start, its cells and fits, its tables."""
        cells = [one for one in self.lines if one.kind == ANSWER and not one.skipped]
        running = sum(one.left > 0 for one in cells)
        beside = START + CELL * running + TABLES * len(cells)
        return self.pace * beside + self.total.total

    @property
    def unknown(self) -> list[Planned]:
        """Give the lines that count as nothing, since nothing is known of them."""
        pairs = zip(self.lines, self.guesses, strict=True)
        return [one for one, g in pairs if one.count is None or (one.left and g.rate is None)]


class Forecaster:
    """Rates for everything a command may ask, measured or guessed.

    rates  of answers and fits on this machine.
    notes  where they are from.
    pace   as in ``Forecast``; ``busy`` too.
    """

    def __init__(self, setting: Setting, order: Order, results: store.Store, say: Say) -> None:
        self.setting = setting
        self.notes: list[str] = []
        self.rates = Rates()
        self.pace = self.busy = 1.0
        self._order = order
        self._say = say
        self._gather(results.root)
        self._try_rows()

    def answer(self, stack: Stack, benchmark: str) -> Guess:
        """Give what an answer of a row costs in all phases: decoding, KL and scoring."""
        return self.rates.answer(benchmark, parts_of(stack))

    def fit(self, stack: Stack, benchmark: str = "") -> Guess:
        """Give what fitting a stack's last part costs; ``benchmark`` where it reads prompts."""
        return self.rates.fit(benchmark, parts_of(stack))

    # ----------------------------------------------------------- what is known

    def _gather(self, results: Path) -> None:
        """Put this folder's runs above those of other machines, all in this machine's seconds."""
        terms = _terms(results, self.setting)
        own = read_runs(terms, trying.machine(self.setting.device)) if terms else Rates()
        sources = [_packaged(self.setting)]
        if terms and not own.has(REFERENCE):
            sources.append((read_runs(terms), f"{terms} (of another machine)"))
            own = Rates()
        for others, where in sources:
            if not others.lines:
                continue
            factor, why = self._factor(own, others)
            self.pace = factor if others is sources[0][0] else self.pace
            self.rates = self.rates.under(others.faster(factor))
            self.notes.append(f"{others.rows} rates of {where}, {why}")
        if own.lines:
            self.rates = self.rates.under(own)
            self.notes.append(f"{own.rows} rates of the runs in {terms}")

    def _factor(self, own: Rates, others: Rates) -> tuple[float, str]:
        """Say how many times as long everything takes here, and how that is known."""
        factor = own.slower_than(others)
        if factor:
            return factor, f"times {factor:.2f}, by the rows that both have"
        if self._untried:
            return 1.0, f"as they were there: {self._untried}"
        factor = Rates([self._now]).slower_than(others)
        if factor is None:
            return 1.0, "as they were there: nothing of theirs was tried here"
        if abs(math.log(factor)) < math.log(ALIKE):
            return 1.0, f"as they were there: {REFERENCE} took {factor:.2f} times as long just now"
        return factor, f"times {factor:.2f}, by {self._now.count} answers of {REFERENCE} just now"

    # ------------------------------------------------------------ what is tried

    @property
    def _untried(self) -> str:
        """Say why nothing can be tried here; "" where it can."""
        if not built(self.setting):
            return "the world is not built yet"
        if self.setting.world is None and not self.setting.protocol.sections.model.local:
            return "the model would have to be fetched"
        return ""

    @cached_property
    def _now(self) -> Measured:
        return self._try(self._order.stacks[0])[0]

    def _try(self, stack: Stack) -> tuple[Measured, bool]:
        """Answer a few prompts; give the rate, and whether the row's KL would be measured."""
        benchmark = self._order.benchmarks[0]
        self._say(f"trying {stack.label} on a few prompts of {benchmark}")
        row = "+".join(parts_of(stack))
        # What all else is scaled by is answered on as many prompts as a batch of a run has.
        prompts = trying.PROMPTS[-1:] if row == REFERENCE else trying.PROMPTS
        found = trying.measure(self.setting, benchmark, stack, row, prompts)
        self.busy = max(self.busy, found.busy)
        moves = bool(found.touches - {"noise", "stop"}) and "search" not in found.touches
        return found.measured, moves

    def _try_rows(self) -> None:
        """Try rows, or parts of rows, that nobody has run and that need no fitting first."""
        waiting = [] if self._untried else list(self._new())
        if not waiting:
            return
        factor = Rates([self._now]).slower_than(self.rates) or 1.0
        start = time.perf_counter()
        for number, one in enumerate(waiting):
            if time.perf_counter() - start > TRIES:
                names = ", ".join(stack.label for stack in waiting[number:])
                self.notes.append(f"not tried, since it took over {TRIES:.0f} s already: {names}")
                break
            try:
                found, moves = self._try(one)
            except Exception as error:  # a plugin's own fault: the run will say it better
                self.notes.append(f"{one.label} could not be tried: {error}")
                continue
            whole = completed(found.rate.times(1 / factor, 1.0), self.rates, kl=moves)
            self.rates = self.rates.under(Rates([replace(found, rate=whole)]))
        if abs(math.log(factor)) > math.log(STEADY):
            self.rates = self.rates.faster(factor)
            self.pace *= factor
            self.notes.append(
                f"all of it times {factor:.2f}, which is what {REFERENCE} took just now: "
                "the machine is faster, or slower, than it was"
            )

    def _new(self) -> Iterator[Stack]:
        seen = set()
        for stack in self._order.stacks:
            for one in (stack, *(Stack((part,)) for part in stack.parts)):
                row = "+".join(parts_of(one))
                learns = any(part.method.fits() for part in one.parts)
                if learns or row in seen or self.rates.has(row) or skip_reason(self.setting, one):
                    continue
                seen.add(row)
                yield one


def forecast(
    order: Order,
    results: store.Store,
    *,
    say: Say = print,
    device: str | None = None,
    batch_rows: int = 64,
    fields: Fields = "default",
    after: Plan | None = None,
) -> Forecast:
    """Predict a command; at most a few prompts are answered for it, and nothing is stored.

    fields  as `runner.bench` takes it.
    after   a tuning before this command.  Of a method that it has not tuned yet, a tuned row is
            counted too, as dear as the method is with such fields as are known.
    """
    setting = Setting(order.protocol, device=device, batch_rows=batch_rows)
    stacks = rows(order.stacks, order.named, setting, results, fields, say)
    later = _later(after, stacks) if after else ()
    order = replace(order, stacks=(*stacks, *later))
    lines = plan(setting, replace(order, stacks=stacks), results)
    if after and later:
        tuned = plan(setting, replace(order, stacks=later), results)
        lines += [_open(one) for one in tuned if one.kind == ANSWER or one.fit_seed != after.seed]
    if not any(line.left or line.count is None for line in lines):
        return Forecast(tuple(lines), tuple(Guess(None, "") for _ in lines))
    source = Forecaster(setting, order, results, say)
    if _own_table(setting).is_file():
        lines = [_counted(line, order.limit, source.rates) for line in lines]
    guesses = [
        source.rates.answer(line.benchmark, line.parts)
        if line.kind == ANSWER
        else source.rates.fit(line.benchmark, line.parts)
        for line in lines
    ]
    if not built(setting):
        source.notes.append("the world is built first (a few minutes, not counted)")
    return Forecast(tuple(lines), tuple(guesses), tuple(source.notes), source.pace, source.busy)


def _later(tuning: Plan, stacks: Sequence[Stack]) -> tuple[Stack, ...]:
    """Give the rows of a tuning that are not tuned yet; their fields are still the defaults."""
    have = {stack.name for stack in stacks if stack.chosen}
    chosen = Chosen(tuning.trials, tuning.objective.name)
    found = [stack for stack in tuning.order.stacks[1:] if stack.name not in have]
    return tuple(replace(stack, chosen=chosen) for stack in found)


def _open(line: Planned) -> Planned:
    """Leave fields open that are still to be found: a rate of no fields in particular is wanted."""
    return replace(line, parts=tuple(f"{names(part)[0]}(?)" for part in line.parts), done=0)


def _counted(line: Planned, limit: int | None, rates: Rates) -> Planned:
    """Where a benchmark's prompts lie nowhere yet, take as many as elsewhere."""
    known = rates.lines.get((ANSWER, line.benchmark, REFERENCE))
    if known is None:
        return line
    count = min(known.count, limit or known.count)
    if line.kind == FIT and not line.share:
        return replace(line, share=float(count))
    return replace(line, count=count) if line.count is None else line


def _own_table(setting: Setting) -> Path:
    return setting.protocol.file.with_suffix(".rates.csv")


def _packaged(setting: Setting) -> tuple[Rates, str]:
    default = plugins.protocol_file(DEFAULT).with_suffix(".rates.csv")
    for table in (_own_table(setting), default):
        if table.is_file():
            return from_table(table), table.name
    return Rates(), ""


def _terms(results: Path, setting: Setting) -> Path | None:
    """Find the protocol's finished runs: under these terms, else under its newest others."""
    for wanted in (setting.terms_hash, None):
        try:
            return choose_terms(results, setting.protocol.name, wanted).folder
        except PlumblineError:
            continue
    return None
