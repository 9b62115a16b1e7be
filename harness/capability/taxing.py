"""What every row costs in capability: each row and the reference on each task, done once.

Rows are fitted as the runner fits them, under the same protocol; a stored fit is read.
A finished (row, task) is a folder results/capability/<terms>/<task>/<row>/<hash>/ with
``spec.json``, ``items.jsonl``, ``lm_eval.json`` and ``done``, written last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.capability.tasks import Asked, find_tasks
from harness.conduct import fitting, store
from harness.conduct.cell import Cell
from harness.conduct.logs import write_log
from harness.conduct.questions import Training, ask, training
from harness.conduct.runner import Lazy, Order, Outcome
from harness.conduct.running import equipped, marks, preflight, skip_reason
from harness.conduct.setting import Setting
from harness.contracts.method import Stack
from harness.engine.forced import NoDensity
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.progress import Advance, progress
from harness.records import Json

if TYPE_CHECKING:
    from harness.capability.language_model import SteeredLM
    from harness.capability.measuring import Ask

Say = Callable[[str], None]


@dataclass(frozen=True)
class Manner:
    """How tasks are put; None leaves it to the task's own file.

    limit    only the first items.
    fewshot  examples before each item.
    chat     whether contexts are rendered in the model's chat template.
    """

    limit: int | None = None
    fewshot: int | None = None
    chat: bool | None = None


def tax(
    order: Order,
    tasks: str,
    results: store.Store,
    *,
    say: Say,
    manner: Manner | None = None,
    include: Path | None = None,
    device: str | None = None,
    batch_rows: int = 64,
) -> Outcome:
    """Evaluate every row of the order on every task, and write the tables.

    Raises PlumblineError, before a model is loaded, for a task that is not known or not at
    hand; a row that fails says why in one line and the others go on.
    """
    manner = manner or Manner()
    if manner.fewshot is not None and manner.fewshot < 0:
        raise PlumblineError(f"SHOTS is {manner.fewshot}; it must be 0 or more")
    results.check()
    found = find_tasks(tasks, include)
    setting = Setting(order.protocol, device=device, batch_rows=batch_rows)
    say(f"protocol {setting.protocol.name}, terms {setting.terms_hash}")
    preflight(setting, order.stacks)
    desk = _Desk(setting, results, order, manner, say)
    for asked in found:
        for stack in order.stacks:
            desk.row(asked, stack)
    if desk.outcome.finished:
        from harness.report.capability_page import write_tables

        name, terms = setting.protocol.name, setting.terms_hash
        desk.outcome.tables = write_tables(results.root, name, terms)
    return desk.outcome


class _Desk:
    """The cells of one command, one after another."""

    def __init__(
        self, setting: Setting, results: store.Store, order: Order, manner: Manner, say: Say
    ) -> None:
        self.setting, self.results, self.order = setting, results, order
        self.manner, self.say = manner, say
        self.questions = ask(setting, order.benchmarks[0])
        self.pairs = Lazy(lambda: training(setting))
        self.outcome = Outcome()

    def row(self, asked: Asked, stack: Stack) -> None:
        """Do whatever of one row on one task is not done."""
        from harness.capability.measuring import NoMean

        where = f"{asked.name}  {stack.label}"
        home = self._home(asked, stack)
        note = home / f"skipped.{store.digest(stack.label)}.json"
        try:
            reason = skip_reason(self.setting, stack) or self._run(asked, stack)
        except store.StoreError:
            raise
        except (NoDensity, NoMean) as error:
            reason = str(error)
        except Exception as error:  # a plugin's own fault; the other rows go on
            line = " ".join(f"{where}: {self._line(error)}".split())
            self.outcome.failures.append(line)
            self.say(f"failed: {line}")
            return
        if reason is None:
            note.unlink(missing_ok=True)
            return
        store.write_json(note, {"method": stack.label, "task": asked.name, "reason": reason})
        self.say(f"{where}  skipped: {reason}")

    def _run(self, asked: Asked, stack: Stack) -> str | None:
        """Evaluate each fit of a row; give the reason where there is nothing to evaluate."""
        from harness.report.capability_page import summary

        for cell in self._cells(stack):
            kit, reward = equipped(self.setting, stack, cell.sampling)
            pairs = self.pairs() if cell.fitted else Training()
            learned = fitting.fit(self.results, cell, kit, pairs, reward)
            steering = stack.steer(kit, learned.fitted)
            if steering.search is not None and asked.scores_likelihoods:
                return "a search among candidates has no density, so it scores no likelihoods"
            folder = self._evaluate(asked, cell, learned, steering)
            self.outcome.finished += 1
            self.say(summary(folder))
        return None

    def _cells(self, stack: Stack) -> Iterator[Cell]:
        """Give one cell per fit; the first sampling seed serves all."""
        seed, limit = self.order.seeds[0], self.manner.limit
        one = Cell(self.setting, self.questions, stack, seed, limit=limit)
        seeds = self.setting.protocol.sections.seeds.fit
        for fit_seed in seeds if one.fitted else seeds[:1]:
            yield Cell(self.setting, self.questions, stack, seed, fit_seed, limit)

    def _evaluate(
        self, asked: Asked, cell: Cell, learned: fitting.Learned, steering: Steering
    ) -> Path:
        from harness.capability.measuring import Ask, measure

        chat = asked.chat if self.manner.chat is None else self.manner.chat
        put = Ask(asked, self.manner.limit, self.manner.fewshot, chat)
        put.prepare()
        spec = self._spec(put, cell, learned, steering)
        folder = self._home(asked, cell.stack) / store.key(spec)
        waiting = f"waiting for another process that runs {cell.label} on {asked.name}"
        with store.opened(folder, spec, waiting):
            if store.is_done(folder):
                return folder
            ledger = Ledger()
            with (
                self.setting.metered(ledger),
                ledger.timed("evaluate"),
                progress(f"{asked.name}  {cell.label}", _requests(put)) as advance,
            ):
                found = measure(self._model(cell, steering, chat, advance), put)
            found.write(folder)
            store.write_json(folder / "ledger.json", ledger.to_json())
            store.mark_done(folder)
        return folder

    def _model(self, cell: Cell, steering: Steering, chat: bool, advance: Advance) -> SteeredLM:
        from harness.capability.language_model import SteeredLM

        return SteeredLM(
            self.setting.model,
            steering,
            batch_size=self.setting.batch_rows,
            seed=cell.seed,
            search_sampling=cell.search_sampling,
            chats=chat,
            advance=lambda count: advance(count, ""),
        )

    def _spec(
        self, put: Ask, cell: Cell, learned: fitting.Learned, steering: Steering
    ) -> dict[str, Json]:
        """Give all that could change an item's measure, and all that a table prints."""
        from importlib.metadata import version

        sections = self.setting.protocol.sections
        search = cell.search_sampling
        return {
            "protocol": self.setting.protocol.name,
            "protocol_hash": self.setting.terms_hash,
            "world": sections.model.world,
            "about": sections.about.text,
            "task": put.asked.name,
            "items": put.identity(),
            "chat": put.chat,
            "fewshot": put.fewshot,
            "limit": put.limit,
            "lm_eval": version("lm_eval"),
            "method": cell.label,
            "stack": [fitting.described(part) for part in cell.stack.parts],
            "seed": cell.seed,
            "fit_seeds": [cell.fit_seed] if cell.fitted else [],
            "fits": list(learned.fits),
            "marks": marks(cell, learned),
            "search": vars(search) if search and steering.search else None,
            "model": self.setting.model.facts(),
            "touches": sorted(steering.touches),
        }

    def _home(self, asked: Asked, stack: Stack) -> Path:
        root = self.results.root / "capability" / self.setting.terms
        return root / asked.name / stack.name

    def _line(self, error: Exception) -> str:
        if isinstance(error, PlumblineError):
            return str(error)
        log = write_log(self.results.root, error)
        return f"{type(error).__name__}: {error} (traceback in {log})"


def _requests(put: Ask) -> int:
    """Count what a model will be asked, for the progress bar."""
    count = 0
    for task in put.asked.tasks.values():
        docs = [doc for _, doc in task.doc_iterator(limit=put.limit)]
        choices = task.OUTPUT_TYPE == "multiple_choice"
        count += sum(len(task.doc_to_choice(doc)) if choices else 1 for doc in docs)
    return count
