"""The frontier of every benchmark of a command: base answers drawn, rows run, pages written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.conduct import base_answers, runner, store
from harness.conduct.questions import ask
from harness.conduct.setting import Setting
from harness.errors import PlumblineError


def run(
    order: runner.Order,
    results: store.Store,
    samples: int,
    *,
    say: Callable[[str], None],
    rows: bool = False,
    device: str | None = None,
    batch_rows: int = 64,
) -> tuple[list[Path], list[str]]:
    """Do whatever is not done; give the pages, the first one's Markdown first, and the failures.

    rows  run the order's rows too, as ``bench`` would, before they are held against anything.

    Raises PlumblineError for too few samples, before a model is loaded.
    """
    base_answers.enough(samples)
    results.check()
    setting = Setting(order.protocol, device=device, batch_rows=batch_rows)
    failures: list[str] = []
    if rows:
        outcome = runner.bench(
            order, results, say=say, device=device, batch_rows=batch_rows, tables=False,
            setting=setting,
        )  # fmt: skip
        failures += outcome.failures
    else:
        say(f"protocol {setting.protocol.name}, terms {setting.terms_hash}")
    wanted = [stack.label for stack in order.stacks] if rows else []
    written: list[Path] = []
    for name in order.benchmarks:
        try:
            questions = ask(setting, name).first(order.limit)
            base_answers.draw(setting, questions, results, samples)
            paths, lines, wrong = _show(setting, results, name, wanted)
        except store.StoreError:
            raise
        except PlumblineError as error:
            failures.append(str(error))
            say(f"failed: {error}")
            continue
        for line in lines:
            say(f"{name}  {line}")
        written += paths
        failures += wrong
    return written, failures


def _show(
    setting: Setting, results: store.Store, name: str, wanted: list[str]
) -> tuple[list[Path], list[str], list[str]]:
    """Write one benchmark's page; give its files, what to say, and which rows do not fit it."""
    from harness.report.frames import Cell, read_cell
    from harness.report.frontier.base_answers import read_base
    from harness.report.frontier.gaps import gaps
    from harness.report.frontier.page import sentences, write

    base = read_base(results.root, setting.terms, name)
    assert base is not None
    folder = results.root / "runs" / setting.terms / name
    found = gaps(base, read_cell(folder) if folder.is_dir() else Cell(name, ()))
    wrong = [
        f"{name}: {label} has no KL of its own and no bound, so it has no gap to the frontier"
        for label in found.unknown(wanted)
    ]
    differing = [label for label in found.left_out if label in wanted] or list(found.left_out)
    if found.left_out and not any(found.points.values()):
        wrong.append(
            f"{name}: no row answered the prompts of the frontier ({differing[0]}: "
            f"{found.left_out[differing[0]]}); run both with the same LIMIT"
        )
    paths = write(found, results.root / "tables" / setting.protocol.name)
    return paths, sentences(found), wrong
