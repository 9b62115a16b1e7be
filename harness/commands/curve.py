"""The command ``curve``: scores against the number of pairs that methods learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import PlumblineError


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
    """Draw gold, reward and win rate against the number of pairs, and where methods cross.

    Every row is fitted on every share of the pairs, as `name(fraction=0.05)` in `bench`. One
    line is printed per cell and per crossing; the path of the figure comes last, the CSV beside
    it has its numbers.
    """
    from harness.conduct import curving, runner
    from harness.conduct.store import Store

    order = runner.order(method, protocol, benchmarks=bench, settings=set, seeds=seed, limit=limit)
    written, failures = curving.run(
        curving.plan(order, fractions),
        Store(output_path),
        say=lambda line: print(line, flush=True),
        device=device,
        batch_rows=batch_size,
    )
    for path in written[-1:]:
        print(path, flush=True)
    if failures:
        more = len(failures) - 1
        raise PlumblineError(failures[0] + (f" (and {more} more, above)" if more else ""))
