"""The command ``frontier``: the best reward there is at each KL, and every row against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import (
    BatchRows,
    Benchmarks,
    Device,
    DryRun,
    Fields,
    Limit,
    Output,
    Seeds,
    Terms,
    ended,
    said,
    say_forecast,
)

if TYPE_CHECKING:
    from harness.conduct.runner import Order
    from harness.conduct.store import Store


def frontier(
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="Rows to run first, as `bench` takes them; each must have a KL of its own or a "
            "bound. Every row that is finished already is shown too.",
        ),
    ] = "",
    protocol: Terms = "testbed",
    bench: Benchmarks = "",
    set: Fields = "",
    samples: Annotated[
        int,
        typer.Option("--samples", help="Base answers drawn to each prompt, in blocks of 16."),
    ] = 64,
    limit: Limit = None,
    seed: Seeds = "",
    batch_size: BatchRows = 64,
    device: Device = None,
    output_path: Output = Path("results"),
    dry_run: DryRun = False,
) -> None:
    """Draw reward against KL: the optimum, best-of-n, and every row as a point or a curve.

    The frontier is estimated from answers of the unsteered model, for the reward that methods
    are granted, for the one they are measured by and for a world's gold, as far as ten effective
    answers a prompt speak for it; it is a lower bound. Each row gets its gap, its reward at 2, 4
    and 8 nats, and its hypervolume. Where a world lists every answer, all of it is exact and the
    estimate is held against it. `tables` writes the same pages again from what is stored.
    """
    from harness.conduct import frontiers, runner
    from harness.conduct.store import Store

    order = runner.order(
        method or runner.REFERENCE,
        protocol,
        benchmarks=bench,
        settings=set,
        seeds=seed,
        limit=limit,
    )
    results = Store(output_path)
    if dry_run:
        return _foretold(order, results, samples, device, batch_size, rows=bool(method))
    written, failures = frontiers.run(
        order,
        results,
        samples,
        say=said,
        rows=bool(method),
        device=device,
        batch_rows=batch_size,
    )
    return ended(written, failures)


def _foretold(
    order: Order,
    results: Store,
    samples: int,
    device: str | None,
    batch_rows: int,
    *,
    rows: bool,
) -> None:
    from harness.conduct.forecast import forecasting
    from harness.conduct.forecast import samples as foreseen

    found = foreseen.foresee(
        order, results, samples, say=said, device=device, batch_rows=batch_rows
    )
    if rows:
        first = forecasting.forecast(order, results, say=said, device=device, batch_rows=batch_rows)
        found = first.then(found)
    say_forecast(found)
