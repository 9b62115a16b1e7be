"""The command ``sweep``: one method at every strength, read at equal KL and equal compute."""

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


def sweep(
    method: Annotated[
        str, typer.Option("--method", "-m", help="One row, as `bench` takes it: `reward_guided`.")
    ],
    over: Annotated[
        str,
        typer.Option(
            "--over",
            help="The knob and its values, `w=0,0.5,1,2,4`; a knob alone takes its search space. "
            "Left out: the field that the method itself calls neutral.",
        ),
    ] = "",
    protocol: Terms = "testbed",
    bench: Benchmarks = "",
    set: Fields = "",
    limit: Limit = None,
    seed: Seeds = "",
    pairs: Annotated[
        int,
        typer.Option("--pairs", help="Development pairs read for alignment and capability.", min=8),
    ] = 256,
    batch_size: BatchRows = 64,
    device: Device = None,
    output_path: Output = Path("results"),
    dry_run: DryRun = False,
) -> None:
    """Draw a method's gold, reward and win rate against KL and compute, over its strengths.

    Scores are read at 2, 4 and 8 nats, so that methods can be compared at equal KL, and the
    law "alignment linear, capability quadratic in strength" is fitted. One line is printed per
    cell and per reading; the path of the figure comes last, CSV files lie beside it.
    """
    from harness.conduct import runner, sweeping
    from harness.conduct.store import Store

    order = runner.order(method, protocol, benchmarks=bench, settings=set, seeds=seed, limit=limit)
    wanted = sweeping.plan(order, over)
    if dry_run:
        return foretold(wanted.order, output_path, device, batch_size)
    written, failures = sweeping.run(
        wanted,
        Store(output_path),
        say=said,
        pairs=pairs,
        device=device,
        batch_rows=batch_size,
    )
    return ended(written[-1:], failures)
