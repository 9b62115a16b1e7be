"""Options that several commands take, in the same words, and how a command of many cells ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import PlumblineError

if TYPE_CHECKING:
    from harness.conduct.forecast.forecasting import Forecast
    from harness.conduct.runner import Order
    from harness.conduct.tuning.search import Plan
    from harness.conduct.tuning.tuned import Fields as TunedOr

Terms = Annotated[
    str,
    typer.Option("--protocol", "-p", help="The terms all rows share: a name or a .toml file."),
]
Benchmarks = Annotated[
    str,
    typer.Option("--bench", "--tasks", "-b", help="Benchmarks; all of the protocol's if empty"),
]
Fields = Annotated[str, typer.Option("--set", help="Fields for all rows, as in `bench`.")]
Limit = Annotated[int | None, typer.Option("--limit", "-L", help="Only the first so many prompts.")]
Seeds = Annotated[str, typer.Option("--seed", help="Sampling seeds, as in `bench`.")]
FitSeeds = Annotated[
    str,
    typer.Option(
        "--fit_seed",
        "--fit-seed",
        help="Seeds of fitting, for methods that learn; the protocol's if left out.",
    ),
]
BothSeeds = Annotated[
    str,
    typer.Option(
        "--seeds",
        help="Seeds of both, crossed: `0,1,2` is every one of three fits under every one of "
        "three sampling seeds, nine runs of a row that learns and three of one that does not. "
        "Then variance.md says what each adds to the width of an interval.",
    ),
]
BatchRows = Annotated[
    int, typer.Option("--batch_size", "--batch-size", help="Rows decoded together.", min=1)
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1, …; the best there is.")
]
Output = Annotated[
    Path,
    typer.Option(
        "--output_path",
        "--output-path",
        help="Results folder. Finished work in it is never done twice.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        "--dry_run",
        help="Only say what would be run, with its tokens and how long it would take.",
    ),
]


def seeds_of(sampling: str, fitting: str, both: str) -> tuple[str, str]:
    """Give the seeds of sampling and of fitting as they were written.

    Raises PlumblineError where both kinds of options are given.
    """
    if both and (sampling or fitting):
        raise PlumblineError(
            "SEEDS= sets the seeds of sampling and of fitting; give it alone, or SEED= and "
            "FIT_SEED="
        )
    return both or sampling, both or fitting


def foretold(
    order: Order,
    output_path: Path,
    device: str | None,
    batch_rows: int,
    fields: TunedOr = "default",
    *,
    after: Plan | None = None,
    jobs: int = 1,
) -> None:
    """Print what a command would run and what that would cost, instead of running it.

    after  what is tuned before; predicted with it.
    jobs   as `say_forecast` takes them.
    """
    from harness.conduct.forecast import forecasting, trials
    from harness.conduct.store import Store

    results = Store(output_path)
    found = forecasting.forecast(
        order,
        results,
        say=said,
        device=device,
        batch_rows=batch_rows,
        fields=fields,
        after=after,
    )
    if after:
        first = trials.foresee(after, results, say=said, device=device, batch_rows=batch_rows)
        found = first.then(found)
    say_forecast(found, jobs)


def say_forecast(found: Forecast, jobs: int = 1) -> None:
    """Print a forecast; ``jobs`` processes share the work."""
    from harness.conduct.forecast import foretelling

    for line in foretelling.told(found, jobs):
        said(line)


def said(line: str) -> None:
    """Print one line of what was done."""
    print(line, flush=True)


def ended(written: Sequence[Path], failures: Sequence[str]) -> None:
    """Print the first path, which is where to look; raise PlumblineError where a cell failed."""
    for path in written[:1]:
        said(str(path))
    if failures:
        more = len(failures) - 1
        raise PlumblineError(failures[0] + (f" (and {more} more, above)" if more else ""))
