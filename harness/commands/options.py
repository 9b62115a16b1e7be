"""Options that several commands take, in the same words, and how a command of many cells ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import PlumblineError

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
