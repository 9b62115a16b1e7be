"""Rows of a learning curve: every method at every share of the protocol's pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.conduct import fractions, runner, store
from harness.conduct.questions import training
from harness.conduct.setting import Setting
from harness.contracts.method import Named, Stack
from harness.errors import PlumblineError

FRACTIONS = "0.01,0.05,0.1,0.25,1"


@dataclass(frozen=True)
class Plan:
    """What is run, and which row is which point.

    order    the command's rows, the shares among them.
    methods  name of a curve -> share of the pairs -> row's label; share 0 for a method that
             learns from no pairs, which is one row.
    """

    order: runner.Order
    methods: dict[str, dict[float, str]]


def plan(order: runner.Order, written: str) -> Plan:
    """Spread a command's rows over shares of the pairs.

    Raises PlumblineError for a share outside (0, 1], for rows that name a share themselves,
    and where no row learns from pairs.
    """
    shares = sorted({fractions.share(w.strip(), "FRACTIONS") for w in written.split(",") if w})
    reference, *rows = order.stacks
    if not shares:
        raise PlumblineError("FRACTIONS names no share; give some, such as " + FRACTIONS)
    if any(part.fraction != 1 for row in rows for part in row.parts):
        raise PlumblineError("a curve sets the fraction itself; leave it out of METHOD and SET")
    if not any(map(_learns, rows)):
        raise PlumblineError(
            "none of these rows learns from pairs; a curve needs one that does, such as dpo"
        )
    methods: dict[str, dict[float, str]] = {}
    spread: list[Stack] = [reference]
    for row in rows:
        found = {s: _less(row, s) for s in shares} if _learns(row) else {0.0: row}
        methods[row.label] = {share: one.label for share, one in found.items()}
        spread += found.values()
    return Plan(replace(order, stacks=tuple(spread)), methods)


def _learns(row: Stack) -> bool:
    return "pairs" in row.needs


def _less(row: Stack, share: float) -> Stack:
    def less(part: Named) -> Named:
        return replace(part, fraction=share) if "pairs" in part.method.needs else part

    return Stack(tuple(map(less, row.parts)))


def run(
    wanted: Plan,
    results: store.Store,
    *,
    say: Callable[[str], None],
    device: str | None = None,
    batch_rows: int = 64,
) -> tuple[list[Path], list[str]]:
    """Run every point that is not done, draw every benchmark; give the files and the failures."""
    from harness.report import learning
    from harness.report.frames import read_cell

    order = wanted.order
    setting = Setting(order.protocol, device=device, batch_rows=batch_rows)
    pairs = len(training(setting).pairs)
    if not pairs:
        raise PlumblineError(f"protocol {order.protocol.name} gives no training pairs")
    methods = {
        name: {fractions.count(pairs, share): label for share, label in points.items()}
        for name, points in wanted.methods.items()
    }
    outcome = runner.bench(
        order, results, say=say, device=device, batch_rows=batch_rows, tables=False, setting=setting
    )
    folder = results.root / "curves" / setting.terms
    stem = folder / store.plain("--".join(methods))[:120]
    written: list[Path] = []
    for benchmark in order.benchmarks:
        try:
            cell = read_cell(results.root / "runs" / setting.terms / benchmark)
            found = learning.learning(cell, methods)
        except PlumblineError as error:
            outcome.failures.append(str(error))
            continue
        for one in found.crossings:
            say(f"{benchmark}  {learning.sentence(one)}")
        written += learning.write(found, stem)
    return written, outcome.failures
