"""The cells and fits of a command, and which of them are stored; no model is loaded for it.

What is stored is told by what its ``spec.json`` says of terms, methods, code, seeds and limit,
and by the prompts that were asked.  A run's own key also holds what only its models can say;
that follows from the terms.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.conduct import plugins, store, worlds
from harness.conduct.fitting import described
from harness.conduct.questions import read, some
from harness.conduct.runner import Order
from harness.conduct.running import skip_reason
from harness.conduct.setting import Setting
from harness.contracts.method import Stack
from harness.errors import PlumblineError
from harness.records import Json, Prompt
from harness.report.rate_sources import label
from harness.report.rates import ANSWER, FIT


@dataclass(frozen=True)
class Planned:
    """One cell, or one fit, of a command.

    kind      "answer" or "fit".
    row       the stack's label; of a fit, of the stack up to the part that is fitted.
    parts     labels of the parts, fields by name, as rates are kept.
    seed      sampling seed of a cell; None for a fit.
    fit_seed  None where nothing is fitted.
    count     answers (one for a fit); None where they cannot be counted yet.
    done      how many of them are stored.
    skipped   why it will not be run, or "".
    share     how much of a fit's rate it takes: the share of the pairs that it is given; the
              number of prompts too, where it reads them.
    folder    where a finished cell lies.
    """

    kind: str
    benchmark: str
    row: str
    parts: tuple[str, ...]
    seed: int | None
    fit_seed: int | None
    count: int | None
    done: int = 0
    skipped: str = ""
    share: float = 1.0
    folder: Path | None = None

    @property
    def left(self) -> int:
        """Say how many are still to be made."""
        return 0 if self.skipped else max((self.count or 0) - self.done, 0)


def plan(setting: Setting, order: Order, results: store.Store) -> list[Planned]:
    """List everything a command asks for, each fit before the first cell that needs it."""
    found: list[Planned] = []
    fits: set[tuple[object, ...]] = set()
    for name in order.benchmarks:
        prompts = asked(setting, name)
        for seed in order.seeds:
            for stack in order.stacks:
                here = _Here(setting, results, stack, name, order.limit, prompts)
                reason = skip_reason(setting, stack) or ""
                learns = any(part.method.fits() for part in stack.parts)
                for fit_seed in order.fits_under(seed) if learns else (None,):
                    if fit_seed is not None and not reason:
                        found += here.fits(fit_seed, fits)
                    found.append(here.cell(seed, fit_seed, reason))
    return found


def asked(setting: Setting, name: str) -> Sequence[Prompt] | None:
    """Read a benchmark's prompts, too long ones included; None where they lie nowhere yet.

    They do not before a world is built, or where a data set cannot be fetched.
    """
    if not built(setting):
        return None
    try:
        found = read(setting, name, plugins.benchmark(name)).prompts
        return some(found, setting.protocol.sections.data[name].count)
    except PlumblineError:
        return None


def built(setting: Setting) -> bool:
    """Say whether the protocol's world lies on this machine, or it needs none."""
    world = setting.world
    return world is None or (worlds.cache_root() / "worlds" / worlds.world_key(world)).is_dir()


def parts_of(stack: Stack) -> tuple[str, ...]:
    """Give the labels that the rates of a stack's parts are kept under.

    A share of the pairs is left out of them: it changes nothing that an answer costs.
    """
    told = [{"name": p.name, "changed": as_json(p.method.changed())} for p in stack.parts]
    return tuple(label([one]) for one in told)


@dataclass(frozen=True)
class _Here:
    """A row on a benchmark, and where its runs lie."""

    setting: Setting
    results: store.Store
    stack: Stack
    benchmark: str
    limit: int | None
    prompts: Sequence[Prompt] | None

    def cell(self, seed: int, fit_seed: int | None, reason: str) -> Planned:
        """Plan one cell; what is stored of it is counted."""
        one = Planned(
            ANSWER, self.benchmark, self.stack.label, parts_of(self.stack), seed, fit_seed,
            self._count(), skipped=reason,
        )  # fmt: skip
        for folder, spec in self._runs():
            if spec["seed"] != seed or spec["fit_seeds"] != [fit_seed] * (fit_seed is not None):
                continue
            stored = len(store.responses(folder))
            if store.is_done(folder):
                return replace(one, count=stored, done=stored, folder=folder)
            one = replace(one, done=max(one.done, stored))
        return one

    def _count(self) -> int | None:
        if self.prompts is None:
            return None
        return sum(1 + len(prompt.turns) for prompt in self.prompts[: self.limit])

    def _runs(self) -> Iterator[tuple[Path, Json]]:
        """Give the stored runs of this row over these items, whatever their seeds."""
        own = as_json([described(part) for part in self.stack.parts])
        place = self.results.cell(self.setting.terms, self.benchmark, self.stack.name)
        for file in sorted(place.glob("*/spec.json")):
            spec = store.read_json(file)
            same = spec["method"] == self.stack.label and spec["stack"] == own
            if same and self._same_items(file.parent, spec["limit"]):
                yield file.parent, spec

    def _same_items(self, folder: Path, limit: int | None) -> bool:
        stored = store.read_lines(folder / "prompts.jsonl")
        if limit != self.limit and (
            limit is not None or self.limit is None or len(stored) > self.limit
        ):
            return False
        if self.prompts is None:
            return True
        now = {p.id: [p.chat.to_dicts(), list(p.turns)] for p in self.prompts}
        if any(now.get(line["id"]) != [line["chat"], line["turns"]] for line in stored):
            return False
        return limit is not None or len(stored) + _left_out(folder) >= len(self.prompts)

    def fits(self, seed: int, known: set[tuple[object, ...]]) -> Iterator[Planned]:
        """Plan the fits of the row's parts, those left out that were planned before."""
        for i, part in enumerate(self.stack.parts):
            if not part.method.fits():
                continue
            row = Stack(self.stack.parts[: i + 1])
            told = as_json([described(p) for p in row.parts])
            reads = any("queries" in p.method.needs and p.method.fits() for p in row.parts)
            benchmark = self.benchmark if reads else ""
            bound = 0 if self.stack.chosen and part.method.tries else None
            key = (store.canonical(told), benchmark, seed, bound)
            if key in known:
                continue
            known.add(key)
            wanted = (told[-1], told[:-1], seed, bound)
            done = any(
                _of_fit(spec) == wanted
                and _reads(spec) in ("", self.benchmark)
                and store.is_done(folder)
                for folder, spec in _fits(self.results, self.setting.terms, row.name)
            )
            label = "+".join(p.label for p in row.parts)
            share = part.fraction * ((self._count() or 0) if reads else 1)
            yield Planned(FIT, benchmark, label, parts_of(row), None, seed, 1, int(done), "", share)


def _fits(results: store.Store, terms: str, name: str) -> Iterator[tuple[Path, Json]]:
    """Give the folders and specs of all fits of one stack; a folder is named after what it is."""
    for file in sorted(results.fit(terms, name, {}).parent.glob("*/spec.json")):
        yield file.parent, store.read_json(file)


def _of_fit(spec: Mapping[str, Json]) -> tuple[Json, Json, Json, Json]:
    left = [{k: v for k, v in part.items() if k != "fit"} for part in spec["left"]]
    return spec["method"], left, spec["seed"], spec.get("evaluations")


def _reads(spec: Mapping[str, Json]) -> str:
    return str(spec["queries"][0]) if spec.get("queries") else ""


def _left_out(folder: Path) -> int:
    notes = folder / "notes.answers.json"
    found = store.read_json(notes) if notes.exists() else {}
    return sum(count for reason, count in found.items() if "left out" in reason)


def as_json(value: Json) -> Json:
    """Give a value as it is read back from a stored spec."""
    return json.loads(store.canonical(value))
