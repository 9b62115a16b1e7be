"""Rows of a strength sweep: one method at every value of one knob, and what each does to texts.

Beside its answers every row reads the protocol's development pairs, nothing being drawn:

    alignment   A(c) = mean over pairs of  l(chosen) - l(rejected)
    capability  H(c) = mean over pairs of (l(chosen) + l(rejected)) / 2

l is an answer's log-probability a token under the steered model.  H counts both sides alike, so
a mere change of taste leaves it as it is; what it loses is the model's grip on its language.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from harness.conduct import coerce, runner, store
from harness.conduct.cell import Cell
from harness.conduct.questions import Training, ask, training
from harness.conduct.setting import Setting
from harness.contracts.method import Stack
from harness.errors import PlumblineError
from harness.report.law import Readings
from harness.report.statistics import Array


@dataclass(frozen=True)
class Plan:
    """What is run, and which row is which point.

    knob    name of the field that is swept.
    points  value -> row's label, rising.
    """

    order: runner.Order
    method: str
    knob: str
    points: dict[float, str]


def plan(order: runner.Order, over: str = "") -> Plan:
    """Spread one row over the values of a knob.

    over  ``field=v1,v2,...``, or a field alone, whose values are then its search space and its
          neutral value; empty for the field that the method itself calls neutral.

    Raises PlumblineError for more rows than one, a field that is no number, and too few values.
    """
    rows = order.stacks[1:]
    if len(rows) != 1:
        raise PlumblineError(f"a sweep takes one row other than unsteered; there are {len(rows)}")
    *left, last = rows[0].parts
    method = last.method
    name, _, written = over.partition("=")
    field = name.strip() or _knob(last.name, method)
    if field not in {f.name for f in fields(method)}:
        raise PlumblineError(f"{last.name} has no field {field!r} to sweep (OVER)")
    values = _read(last.name, field, written, method) if written else _known(method, field)
    if len(values) < 3:
        raise PlumblineError(
            f"a sweep of {last.name}.{field} needs three values or more; say which: "
            f"OVER={field}=0,0.5,1,2"
        )
    stacks = {
        v: Stack((*left, replace(last, method=replace(method, **{field: v}))))
        for v in sorted(values)
    }
    spread = replace(order, stacks=(order.stacks[0], *stacks.values()))
    named = {float(v): stack.label for v, stack in stacks.items()}
    return Plan(spread, rows[0].label, f"{last.name}.{field}", named)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _known(method: Any, field: str) -> list[Any]:
    space = [v for v in method.search_space.get(field, ()) if _number(v)]
    neutral = (method.neutral or {}).get(field)
    return sorted({*space, *([neutral] if _number(neutral) else [])})


def _knob(name: str, method: Any) -> str:
    for field in method.neutral or {}:
        if len(_known(method, field)) > 2:
            return str(field)
    raise PlumblineError(f"{name} names no strength of its own; say which: OVER=field=v1,v2,v3")


def _read(name: str, field: str, written: str, method: Any) -> list[Any]:
    hint = get_type_hints(type(method))[field]
    try:
        found = {coerce.coerce(w.strip(), hint) for w in written.split(",") if w.strip()}
    except coerce.UnfitError:
        raise PlumblineError(
            f"OVER: {written!r} are not values of {name}.{field}, {coerce.accepted(hint)}"
        ) from None
    if not all(map(_number, found)):
        raise PlumblineError(
            f"OVER: {written!r} are not all finite numbers, so {name}.{field} cannot be swept"
        )
    return sorted(found)


def run(
    wanted: Plan,
    results: store.Store,
    *,
    say: Callable[[str], None],
    pairs: int = 256,
    device: str | None = None,
    batch_rows: int = 64,
) -> tuple[list[Path], list[str]]:
    """Run every point that is not done, draw every benchmark; give the files and the failures."""
    from harness.report import sweep
    from harness.report.frames import read_cell

    order = wanted.order
    setting = Setting(order.protocol, device=device, batch_rows=batch_rows)
    outcome = runner.bench(
        order, results, say=say, device=device, batch_rows=batch_rows, tables=False, setting=setting
    )
    stem = results.root / "sweeps" / setting.terms / store.plain(wanted.method)[:80]
    stem = stem.with_name(f"{stem.name}.{wanted.knob}")
    told = runner.Lazy(lambda: training(setting))
    written: list[Path] = []
    for benchmark in order.benchmarks:
        try:
            cell = read_cell(results.root / "runs" / setting.terms / benchmark)
            readings, why = _readings(wanted, setting, benchmark, results, told(), pairs)
            found = sweep.sweep(cell, wanted.knob, wanted.points, readings)
        except PlumblineError as error:
            outcome.failures.append(str(error))
            continue
        for line in (*sweep.sentences(found), *([f"no law is fitted: {why}"] if why else [])):
            say(f"{benchmark}  {line}")
        written += sweep.write(found, stem)
    return written, outcome.failures


def _readings(
    wanted: Plan,
    setting: Setting,
    benchmark: str,
    results: store.Store,
    told: Training,
    count: int,
) -> tuple[Readings | None, str]:
    """Read development pairs under every point; say why not where it cannot be done."""
    from harness.engine.density import NoDensity

    chosen = told.dev[:count]
    if not chosen:
        return None, "the protocol has no development pairs"
    rows: list[tuple[Array, Array]] = []
    for stack in wanted.order.stacks[1:]:
        try:
            rows.append(_read_pairs(setting, benchmark, stack, results, told, chosen))
        except NoDensity as error:
            return None, str(error)
    c = np.array(list(wanted.points))
    return Readings(c, np.stack([a for a, _ in rows]), np.stack([h for _, h in rows])), ""


def _read_pairs(
    setting: Setting,
    benchmark: str,
    stack: Stack,
    results: store.Store,
    told: Training,
    pairs: Sequence[Any],
) -> tuple[Array, Array]:
    """Give alignment and capability of each pair under one row: [pairs] each."""
    from harness.conduct import fitting
    from harness.conduct.running import equipped
    from harness.engine.density import logprobs
    from harness.engine.jobs import Job
    from harness.engine.sampling import Sampling

    order_seeds = setting.protocol.sections.seeds
    cell = Cell(setting, ask(setting, benchmark), stack, 0, order_seeds.fit[0])
    kit, reward = equipped(setting, stack, cell.sampling)
    learned = fitting.fit(results, cell, kit, told if cell.fitted else Training(), reward)
    steering = stack.steer(kit, learned.fitted)
    model = setting.model
    ends = model.ends[:1]
    sides = []
    for side in ("chosen", "rejected"):
        texts = [[*model.encode_answer(p.prompt, getattr(p, side)), *ends] for p in pairs]
        jobs = [
            Job(p.id, p.prompt, Sampling(max_new_tokens=len(t)))
            for p, t in zip(pairs, texts, strict=True)
        ]
        found = logprobs(model, jobs, texts, steering, batch_rows=setting.batch_rows)
        sides.append(np.array([float(f.mean()) for f in found]))
    return sides[0] - sides[1], (sides[0] + sides[1]) / 2
