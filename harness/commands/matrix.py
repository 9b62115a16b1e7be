"""The command ``matrix``: all stacks of a few methods, and what stacking them brings."""

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


def matrix(
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="The methods to stack, two or more: `prompting,static_editing,best_of_n`.",
        ),
    ],
    protocol: Terms = "testbed",
    bench: Benchmarks = "",
    set: Fields = "",
    limit: Limit = None,
    seed: Seeds = "",
    orders: Annotated[
        bool,
        typer.Option(
            "--orders", help="Also run every pair the other way round, where that can differ."
        ),
    ] = False,
    batch_size: BatchRows = 64,
    device: Device = None,
    output_path: Output = Path("results"),
    dry_run: DryRun = False,
) -> None:
    """Run all pairs of methods, and prompt x edit x decoding; say what stacking brings.

    Each stack is held against the better of its parts, prompt by prompt, and against the sum of
    their effects. Pairs that cannot be put together are left empty, with the reason. Whatever
    is finished is not run again. One line is printed per cell and per stack; the path of the
    page comes last, heat maps and CSV lie beside it.
    """
    from harness.conduct import crossing, runner
    from harness.conduct.setting import Setting
    from harness.conduct.store import Store

    order = runner.order(method, protocol, benchmarks=bench, settings=set, seeds=seed, limit=limit)
    crossing.check(method, order)
    results = Store(output_path)
    if dry_run:
        setting = Setting(order.protocol, device=device, batch_rows=batch_size)
        touches = crossing.known_touches(order, setting, results)
        whole = crossing.plan(order, setting, touches, orders=orders)
        if unknown := [part for part in whole.parts if part not in touches]:
            said(f"never run, so counted with every other method: {', '.join(unknown)}")
        return foretold(whole.order, output_path, device, batch_size)
    written, failures = crossing.run(
        order, results, say=said, orders=orders, device=device, batch_rows=batch_size
    )
    return ended(written, failures)
