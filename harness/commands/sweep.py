"""The command ``sweep``: one method at every strength, read at equal KL and equal compute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import PlumblineError


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
    protocol: Annotated[
        str,
        typer.Option("--protocol", "-p", help="The terms all rows share: a name or a .toml file."),
    ] = "testbed",
    bench: Annotated[
        str,
        typer.Option("--bench", "--tasks", "-b", help="Benchmarks; all of the protocol's if empty"),
    ] = "",
    set: Annotated[str, typer.Option("--set", help="Fields for all rows, as in `bench`.")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", "-L", help="Only the first so many prompts.")
    ] = None,
    seed: Annotated[str, typer.Option("--seed", help="Sampling seeds, as in `bench`.")] = "",
    pairs: Annotated[
        int,
        typer.Option("--pairs", help="Development pairs read for alignment and capability.", min=8),
    ] = 256,
    batch_size: Annotated[
        int, typer.Option("--batch_size", "--batch-size", help="Rows decoded together.", min=1)
    ] = 64,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, …; the best there is.")
    ] = None,
    output_path: Annotated[
        Path,
        typer.Option(
            "--output_path",
            "--output-path",
            help="Results folder. Finished work in it is never done twice.",
        ),
    ] = Path("results"),
) -> None:
    """Draw a method's gold, reward and win rate against KL and compute, over its strengths.

    Scores are read at 2, 4 and 8 nats, so that methods can be compared at equal KL, and the
    law "alignment linear, capability quadratic in strength" is fitted. One line is printed per
    cell and per reading; the path of the figure comes last, CSV files lie beside it.
    """
    from harness.conduct import runner, sweeping
    from harness.conduct.store import Store

    order = runner.order(method, protocol, benchmarks=bench, settings=set, seeds=seed, limit=limit)
    written, failures = sweeping.run(
        sweeping.plan(order, over),
        Store(output_path),
        say=lambda line: print(line, flush=True),
        pairs=pairs,
        device=device,
        batch_rows=batch_size,
    )
    for path in written[-1:]:
        print(path, flush=True)
    if failures:
        more = len(failures) - 1
        raise PlumblineError(failures[0] + (f" (and {more} more, above)" if more else ""))
