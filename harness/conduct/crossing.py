"""Every stack of a few methods: which combinations there are, which are refused, and why.

Methods are told apart by what they touch while an answer is made, as their own finished runs
say: the prompt, the model (weights, hidden states), or the drawing of tokens (logits, search).
A stack applies them in this order; two of one kind in the order in which they were named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

from harness.conduct import runner, store
from harness.conduct.forecast import planned
from harness.conduct.grammar import parse_rows
from harness.conduct.running import skip_reason
from harness.conduct.setting import Setting
from harness.contracts.method import Stack
from harness.errors import PlumblineError
from harness.report.frames import Cell, Row, finished, read_run

Kind = Literal["prompt", "model", "drawing"]
KINDS: Mapping[Kind, frozenset[str]] = {
    "prompt": frozenset({"prompt"}),
    "model": frozenset({"weights", "prepare", "hidden"}),
    "drawing": frozenset({"logits", "lookahead", "search", "stop", "noise"}),
}
ORDER: tuple[Kind, ...] = ("prompt", "model", "drawing")
CLASH = "two methods in the stack"  # how a stack says that its parts cannot be put together

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """All stacks of a few rows.

    order     the reference, the parts, then the stacks.
    touches   part's label -> what it touches; empty where it was never run.
    stacks    labels of parts, in order -> the stack's label.
    reversed  the same for pairs in the other order, where that can differ.
    refused   labels of parts -> why they cannot be put together.
    skipped   part's label -> why the protocol has no use for it.
    """

    order: runner.Order
    touches: Mapping[str, frozenset[str]]
    stacks: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    reversed: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    refused: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> list[str]:
        """Give the labels of the parts, by kind."""
        return [label for label in self.touches if label not in self.skipped]

    def kind(self, part: str) -> Kind | None:
        """Say what kind a part is; None where it was never run, or touches nothing."""
        return kind(self.touches[part])


def check(methods: str, order: runner.Order) -> None:
    """Raise PlumblineError for fewer than two methods, for stacks, and for one named twice."""
    rows = order.stacks[1:]
    whole = next((stack for stack in rows if len(stack.parts) > 1), None)
    if whole is not None:
        raise PlumblineError(
            f"a matrix stacks the methods itself; {whole.label} is a stack already, name its parts"
        )
    written = parse_rows(methods)
    if any(part.name == runner.REFERENCE for row in written for part in row):
        raise PlumblineError(f"{runner.REFERENCE} is what every stack starts from; leave it out")
    spread = any(part.name == "all" for row in written for part in row)
    if not spread and len(written) > len(rows):
        raise PlumblineError(f"METHOD names a row twice: {methods}")
    if len(rows) < 2:
        raise PlumblineError("a matrix takes two methods or more; there is one")


def kind(touches: frozenset[str]) -> Kind | None:
    """Say what kind of method touches this; the model stands above what goes with it."""
    first: tuple[Kind, ...] = ("model", "drawing", "prompt")
    return next((one for one in first if touches & KINDS[one]), None)


def plan(
    order: runner.Order, setting: Setting, touches: Mapping[str, frozenset[str]], *, orders: bool
) -> Plan:
    """Form all pairs, and all triples of three kinds.

    touches  part's label -> what it touches, as far as it is known.
    orders   also every pair the other way round, where something can come of it.
    """
    reference, *rows = order.stacks
    skipped = {s.label: why for s in rows if (why := skip_reason(setting, s))}
    known = {s.label: touches.get(s.label, frozenset()) for s in rows}
    known = dict(sorted(known.items(), key=lambda one: _rank(one[1])))
    by_label = {stack.label: stack for stack in rows if stack.label not in skipped}
    parts = [by_label[label] for label in known if label in by_label]
    groups = [[p for p in parts if kind(known[p.label]) == one] for one in ORDER]
    wanted = [*combinations(parts, 2), *product(*groups)]
    stacks: dict[tuple[str, ...], Stack] = {}
    back: dict[tuple[str, ...], Stack] = {}
    refused: dict[tuple[str, ...], str] = {}
    for chosen in wanted:
        labels = tuple(part.label for part in chosen)
        if why := refusal([known[label] for label in labels]):
            refused[labels] = why
            continue
        stacks[labels] = _joined(chosen)
        if orders and len(chosen) == 2 and _may_differ(chosen, known):
            back[labels[::-1]] = _joined(chosen[::-1])
    every = (reference, *parts, *stacks.values(), *back.values())
    return Plan(
        replace(order, stacks=every),
        known,
        {labels: stack.label for labels, stack in stacks.items()},
        {labels: stack.label for labels, stack in back.items()},
        refused,
        skipped,
    )


def refusal(touches: Sequence[frozenset[str]]) -> str:
    """Say why steerings that touch this cannot be added; "" where they can."""
    from harness.engine.steering import Steering

    try:
        sum((_stand_in(one) for one in touches), Steering())
    except PlumblineError as error:
        return str(error)
    return ""


def _stand_in(touches: frozenset[str]) -> Any:
    from harness.engine.steering import Search, Steering

    one: Any = object()
    return Steering(
        weights=nullcontext if "weights" in touches else None,
        search=Search(1, one) if "search" in touches else None,
        lookahead=one if "lookahead" in touches else None,
    )


def _may_differ(pair: Sequence[Stack], known: Mapping[str, frozenset[str]]) -> bool:
    """Say whether an order can matter: a fit sees what is left of it, edits meet in one place."""
    first, second = (known[one.label] for one in pair)
    learns = any(part.method.fits() for one in pair for part in one.parts)
    return learns or bool(first & second - {"noise", "stop"})


def _joined(parts: Sequence[Stack]) -> Stack:
    return Stack(tuple(part for stack in parts for part in stack.parts))


def _rank(touches: frozenset[str]) -> int:
    found = kind(touches)
    return ORDER.index(found) if found else len(ORDER)


# ------------------------------------------------------------------- running


def known_touches(
    order: runner.Order, setting: Setting, results: store.Store
) -> dict[str, frozenset[str]]:
    """Read what each row touches off any finished run of it, whatever its limit and seeds."""
    found: dict[str, frozenset[str]] = {}
    for stack in order.stacks:
        for name in order.benchmarks:
            place = results.cell(setting.terms, name, stack.name)
            for file in sorted(place.glob("*/spec.json"), key=lambda file: finished(file.parent)):
                spec = store.read_json(file)
                if spec["method"] == stack.label and store.is_done(file.parent):
                    found[stack.label] = frozenset(spec["touches"])
    return found


def run(
    order: runner.Order,
    results: store.Store,
    *,
    say: Say,
    orders: bool = False,
    device: str | None = None,
    batch_rows: int = 64,
) -> tuple[list[Path], list[str]]:
    """Run the parts, then every stack that is not done; give the files and the failures."""
    from harness.report import matrix, matrix_page

    setting = Setting(order.protocol, device=device, batch_rows=batch_rows)

    def bench(asked: runner.Order) -> runner.Outcome:
        return runner.bench(asked, results, say=say, tables=False, setting=setting)

    failures = list(bench(order).failures)
    whole = plan(order, setting, known_touches(order, setting, results), orders=orders)
    parts = whole.order.stacks[: 1 + len(whole.parts)]
    stacks = tuple(stack for stack in whole.order.stacks if stack not in parts)
    if stacks:
        said = bench(replace(order, stacks=(order.stacks[0], *stacks))).failures
        whole = _refused(whole, said)
        failures += [one for one in said if CLASH not in one]
    for labels, why in whole.refused.items():
        say(f"{'+'.join(labels)}  refused: {why}")
    cells = [_cell(whole.order, setting, results, name) for name in order.benchmarks]
    crossed = matrix.Crossed(
        order.protocol.name,
        setting.terms_hash,
        {label: whole.kind(label) or "nothing" for label in whole.parts},
        whole.stacks,
        whole.reversed,
        whole.refused,
        whole.skipped,
    )
    found, faults = matrix.matrices(cells, crossed)
    failures += faults
    if not found:
        return [], failures
    for line in matrix.sentences(found):
        say(line)
    stem = results.root / "matrix" / setting.terms / store.plain("--".join(whole.parts))[:120]
    return matrix_page.write(found, crossed, stem), failures


def _refused(whole: Plan, failures: Sequence[str]) -> Plan:
    """Count as refused, not as failed, what could not be put together once it was run."""
    clashes = {
        labels: one.partition(": ")[2]
        for labels, label in whole.stacks.items()
        for one in failures
        if f"  {label}: " in one and CLASH in one
    }
    stacks = {labels: label for labels, label in whole.stacks.items() if labels not in clashes}
    return replace(whole, stacks=stacks, refused={**whole.refused, **clashes})


def _cell(order: runner.Order, setting: Setting, results: store.Store, benchmark: str) -> Cell:
    """Read the finished runs of every row on one benchmark."""
    found: dict[str, list[Path]] = {}
    for one in planned.plan(setting, replace(order, benchmarks=(benchmark,)), results):
        if one.folder is not None:
            found.setdefault(one.row, []).append(one.folder)
    rows = (Row(label, tuple(map(read_run, folders))) for label, folders in found.items())
    return Cell(benchmark, tuple(rows))
