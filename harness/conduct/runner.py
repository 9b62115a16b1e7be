"""All cells of a command: the reference first, then row by row, and the tables at the end.

A cell that fails says why in one line and the others go on; a results folder
that cannot be written stops everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.conduct import judges, plugins, store
from harness.conduct.cell import Cell
from harness.conduct.logs import write_log
from harness.conduct.protocol import Protocol, load
from harness.conduct.questions import Questions, Training, ask, training
from harness.conduct.running import preflight, run, skip_reason
from harness.conduct.setting import Setting
from harness.conduct.stacks import rows as parse_rows
from harness.conduct.stacks import stacks as parse_stacks
from harness.conduct.tuning.tuned import Fields, rows
from harness.contracts.method import Stack
from harness.errors import PlumblineError, unknown

REFERENCE = "unsteered"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What a command asks for, checked against what exists before anything is loaded.

    benchmarks  in the protocol's order.
    seeds       sampling seeds; fit_seeds: of methods that learn.  A row has a run for each
                pair of the two, so that what either does to its score can be told apart;
                or, where they are not ``crossed``, one for each seed and the fit at its place.
    named       labels of rows that name fields of their own.
    """

    protocol: Protocol
    stacks: tuple[Stack, ...]
    benchmarks: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int | None = None
    named: frozenset[str] = frozenset()
    fit_seeds: tuple[int, ...] = (0,)
    crossed: bool = True

    def fits_under(self, seed: int) -> tuple[int, ...]:
        """Give the fit seeds that a method that learns is run with under a sampling seed."""
        return self.fit_seeds if self.crossed else (self.fit_seeds[self.seeds.index(seed)],)


@dataclass
class Outcome:
    """What came of it.

    failures  one line each.
    skipped   cells whose methods do not apply, with the reason.
    """

    tables: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    finished: int = 0


def order(
    methods: str,
    protocol: str,
    *,
    benchmarks: str = "",
    settings: str = "",
    seeds: str = "",
    fit_seeds: str = "",
    limit: int | None = None,
) -> Order:
    """Read a command's words; every mistake in them is found here, before a model is loaded."""
    found = load(plugins.protocol_file(protocol))
    sections = found.sections
    judges.check(sections.judging)
    known = list(sections.data)
    named = [n.strip() for n in benchmarks.split(",") if n.strip()] or known
    for name in named:
        if name not in known:
            raise unknown(f"benchmark in protocol {found.name}", name, known)
        plugins.benchmark(name)
    if limit is not None and limit < 1:
        raise PlumblineError(f"LIMIT is {limit}; it must be at least 1")
    written = parse_rows(methods, settings)
    reference = parse_stacks(REFERENCE)
    rest = [s for s, _ in written if s.label != REFERENCE]
    return Order(
        found,
        (*reference, *rest),
        tuple(name for name in known if name in named),
        _seeds(seeds, "SEED") or tuple(sections.seeds.sampling),
        limit,
        frozenset(s.label for s, named in written if named),
        _seeds(fit_seeds, "FIT_SEED") or tuple(sections.seeds.fit),
        bool(seeds or fit_seeds) or sections.seeds.crossed,
    )


def bench(
    asked: Order,
    results: store.Store,
    *,
    say: Say,
    device: str | None = None,
    batch_rows: int = 64,
    tables: bool = True,
    setting: Setting | None = None,
    fields: Fields = "default",
) -> Outcome:
    """Run every cell that is not done, then write the tables of the protocol.

    fields  which of tuned and default fields the rows have that name none themselves.
    """
    setting = setting or Setting(asked.protocol, device=device, batch_rows=batch_rows)
    outcome = Outcome()
    results.check()
    say(f"protocol {setting.protocol.name}, terms {setting.terms_hash}")
    stacks = rows(asked.stacks, asked.named, setting, results, fields, say)
    asked = replace(asked, stacks=stacks)
    preflight(setting, asked.stacks)
    pairs = Lazy(lambda: training(setting))
    for name in asked.benchmarks:
        try:
            questions = ask(setting, name)
            limited = questions.first(asked.limit)
            limit = asked.limit if limited != questions else None
            _benchmark(asked, results, setting, limited, limit, pairs, outcome, say)
        except store.StoreError:
            raise
        except Exception as error:
            _failed(outcome, say, f"{name}: {_line(results, error)}")
    if tables and outcome.finished:
        from harness.report.tables import write_tables

        outcome.tables = write_tables(results.root, setting.protocol.name, setting.terms_hash)
    return outcome


class Lazy:
    """Training pairs, read when the first method wants to learn from them."""

    def __init__(self, read: Callable[[], Training]) -> None:
        self._read = read
        self._found: Training | None = None

    def __call__(self) -> Training:
        """Give the pairs."""
        if self._found is None:
            self._found = self._read()
        return self._found


def _benchmark(
    asked: Order,
    results: store.Store,
    setting: Setting,
    questions: Questions,
    limit: int | None,
    pairs: Lazy,
    outcome: Outcome,
    say: Say,
) -> None:
    for count, reason in ((count, reason) for reason, count in questions.notes.items()):
        say(f"{questions.name}: {count} {reason}")
    references: dict[int, Path] = {}
    for seed in asked.seeds:
        for stack in asked.stacks:
            for cell in _cells(setting, questions, stack, seed, asked.fits_under(seed), limit):
                reference = references.get(seed)
                folder = _run(results, cell, pairs, reference, outcome, say)
                if stack.label == REFERENCE:
                    if folder is None:
                        raise PlumblineError("the reference run failed, so no row can be compared")
                    references[seed] = folder


def _cells(
    setting: Setting,
    questions: Questions,
    stack: Stack,
    seed: int,
    fit_seeds: Sequence[int],
    limit: int | None,
) -> Iterator[Cell]:
    """Give one cell per fit seed; a stack that learns nothing has one."""
    one = Cell(setting, questions, stack, seed, limit=limit)
    for fit_seed in fit_seeds if one.fitted else fit_seeds[:1]:
        yield Cell(setting, questions, stack, seed, fit_seed, limit)


def _run(
    results: store.Store,
    cell: Cell,
    pairs: Lazy,
    reference: Path | None,
    outcome: Outcome,
    say: Say,
) -> Path | None:
    from harness.report.tables import cell_summary

    where = f"{cell.questions.name}  {cell.label}"
    note = results.cell(cell.setting.terms, cell.questions.name, cell.stack.name) / "skipped.json"
    reason = skip_reason(cell.setting, cell.stack)
    if reason is not None:
        store.write_json(note, {"method": cell.label, "reason": reason})
        outcome.skipped.append(f"{where}: {reason}")
        say(f"{where}  skipped: {reason}")
        return None
    if note.exists():
        note.unlink()  # what was not granted is granted now
    try:
        folder = run(results, cell, pairs() if cell.fitted else Training(), reference)
        summary = cell_summary(folder, reference)
    except store.StoreError:
        raise
    except Exception as error:  # a plugin's own fault; the other cells go on
        _failed(outcome, say, f"{where}: {_line(results, error)}")
        return None
    outcome.finished += 1
    say(summary)
    return folder


def _failed(outcome: Outcome, say: Say, line: str) -> None:
    one = " ".join(line.split())
    outcome.failures.append(one)
    say(f"failed: {one}")


def _line(results: store.Store, error: Exception) -> str:
    """Give an error's one line; the traceback of one nobody foresaw goes to a log."""
    if isinstance(error, PlumblineError):
        return str(error)
    log = write_log(results.root, error)
    return f"{type(error).__name__}: {error} (traceback in {log})"


def _seeds(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(word) for word in text.split(",") if word.strip()))
    except ValueError:
        raise PlumblineError(
            f"{name} is {text!r}; it must be whole numbers separated by commas, such as 0 or 0,1,2"
        ) from None
