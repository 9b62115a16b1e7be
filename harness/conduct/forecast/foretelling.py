"""A forecast in words: a line for every fit and cell, then what all of it comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.conduct.forecast.forecasting import STEADY, Forecast
from harness.conduct.forecast.planned import Planned
from harness.report.rates import ANSWER

SHARED = 1.15  # processes side by side share the memory: so many times as long as alone


def told(found: Forecast, jobs: int = 1) -> Iterable[str]:
    """Say a forecast: a line for every fit and cell, then what all of it comes to.

    jobs  processes that share it, each on cores of its own.
    """
    rows = [_line(found, i) for i in range(len(found.lines))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
    cells = [one for one in found.lines if one.kind == ANSWER]
    several = [one for one in found.lines if one.kind != ANSWER]
    fits = [replace(one, count=1) for one in several for _ in range(one.count or 1)]
    yield (
        f"{len(cells)} cells: {_state(cells)}; {len(fits)} fits: {_state(fits)}; "
        f"{sum(one.left for one in cells)} answers to make"
    )
    yield from (f"from: {note}" for note in found.notes)
    tokens = ", ".join(f"{role} {amount(n)}" for role, n in sorted(found.total.by_role().items()))
    if found.unknown:
        names = ", ".join(
            dict.fromkeys(f"{o.row} on {o.benchmark or 'all'}" for o in found.unknown)
        )
        yield f"nothing is known of these, which count as nothing: {names}"
    more = "at least " if found.unknown else ""
    busy = ""
    if found.busy > STEADY:
        busy = f", or {duration(found.busy * found.seconds)} if the machine stays as busy as now"
    each = duration(SHARED * found.seconds / jobs)
    shared = f" of one process, about {each} of {jobs} at once"
    yield (
        f"predicted: tokens {tokens or 'none'}; {more}{duration(found.seconds)}"
        f"{shared if jobs > 1 else ''}{busy}"
    )


def _line(found: Forecast, i: int) -> tuple[str, ...]:
    line, guess, cost = found.lines[i], found.guesses[i], found.cost(i)
    kind = "fit" if line.kind != ANSWER else f"seed {line.seed}"
    if line.fit_seed is not None:
        kind += f" {line.fit_seed}" if line.kind != ANSWER else f", fit {line.fit_seed}"
    head = (line.benchmark or "all", line.row, kind)
    if line.skipped:
        return (*head, "", "", f"skipped: {line.skipped}")
    count = "?" if line.count is None else str(line.count)
    answers = f"{count} answers" if line.kind == ANSWER else f"{count} fits" * (line.count != 1)
    if line.count is not None and not line.left:
        return (*head, answers, "", "finished")
    if guess.rate is None:
        return (*head, answers, "", f"not known: {guess.basis}")
    begun = f", {line.done} of them stored" if line.done else ""
    basis = "" if guess.basis == "measured" else f" (by {guess.basis})"
    tokens = f"{amount(sum(cost.tokens.values()))} tokens"
    return (*head, answers + begun, tokens, f"{duration(cost.total)}{basis}")


def _state(lines: list[Planned]) -> str:
    skipped = sum(bool(one.skipped) for one in lines)
    done = sum(one.count is not None and not one.left and not one.skipped for one in lines)
    out = f"{len(lines) - done - skipped} to run, {done} finished"
    return out + (f", {skipped} skipped" if skipped else "")


def duration(seconds: float) -> str:
    """Say a time as people do."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def amount(count: float) -> str:
    """Say a number of tokens as people do."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"
