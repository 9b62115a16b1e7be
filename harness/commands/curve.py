"""The command ``curve``: scores against the number of pairs that methods learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    foretold,
    said,
)


def curve(
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="Rows, as `bench` takes them: `dpo,dpo+alignez,static_editing`. One that learns "
            "from no pairs is drawn as a level.",
        ),
    ],
    fractions: Annotated[
        str,
        typer.Option(
            "--fractions",
            "-f",
            help="Shares of the protocol's pairs, nested, in the order of the fit's seed.",
        ),
    ] = "0.01,0.05,0.1,0.25,1",
    protocol: Terms = "testbed",
    bench: Benchmarks = "",
    set: Fields = "",
    limit: Limit = None,
    seed: Seeds = "",
    batch_size: BatchRows = 64,
    device: Device = None,
    output_path: Output = Path("results"),
    dry_run: DryRun = False,
) -> None:
    """Draw gold, reward and win rate against the number of pairs, and where methods cross.

    Every row is fitted on every share of the pairs, as `name(fraction=0.05)` in `bench`. One
    line is printed per cell and per crossing; the path of the figure comes last, the CSV beside
    it has its numbers.
    """
    from harness.conduct import curving, runner
    from harness.conduct.store import Store

    order = runner.order(method, protocol, benchmarks=bench, settings=set, seeds=seed, limit=limit)
    wanted = curving.plan(order, fractions)
    if dry_run:
        return foretold(wanted.order, output_path, device, batch_size)
    written, failures = curving.run(
        wanted,
        Store(output_path),
        say=said,
        device=device,
        batch_rows=batch_size,
    )
    return ended(written[-1:], failures)
