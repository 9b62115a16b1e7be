"""Progress bars with rates and remaining time; silent where nobody watches a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True, highlight=False)
Advance = Callable[[float, str], None]


class _Rate(ProgressColumn):
    """Items per second; the unit is the task's."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="cyan")


@contextmanager
def progress(what: str, total: float) -> Iterator[Advance]:
    """Show a bar while the block runs; call ``advance(amount, note)`` inside it.

    On a terminal: a live bar with rate and remaining time.  Elsewhere (logs,
    CI): one plain line every ten seconds at most.
    """
    if not console.is_terminal:
        yield _plain(what, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(amount: float, note: str = "") -> None:
            bar.update(task, advance=amount, note=note)

        yield advance


def _plain(what: str, total: float) -> Advance:
    start = last = time.monotonic()
    done = 0.0

    def advance(amount: float, note: str = "") -> None:
        nonlocal last, done
        done += amount
        now = time.monotonic()
        if now - last >= 10:
            last = now
            left = max(total - done, 0) * (now - start) / done if done else float("nan")
            print(
                f"{what}: {done:g}/{total:g}, {done / (now - start):.1f}/s, "
                f"{left:.0f} s left {note}",
                file=sys.stderr,
                flush=True,
            )

    return advance
