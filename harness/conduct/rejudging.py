"""Put stored answers to a judge: nothing is generated, and no policy is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from harness.chat import Chat
from harness.conduct import plugins, scoring, store
from harness.conduct.judges import Reading, judge_reading
from harness.conduct.setting import Setting
from harness.conduct.terms import Judging
from harness.contracts.scorer import Instruments
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Json, Prompt

REFERENCE = "unsteered"
EXTERNAL = "external"  # the terms of imported runs, which no protocol file stands for:
ANY = "testbed"  # any will do for them, since their judge is named whole (`judge@…`)
SAME = ("seed", "limit", "items", "sampling")  # what a run shares with the one it is compared with


@dataclass
class Judged:
    """What came of it, over all runs.

    outcomes  of every answer judged, new or old.
    spent     what was asked for just now, after what was kept.
    """

    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    spent: Ledger = field(default_factory=Ledger)
    asked: int = 0
    found: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    served: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """Say it in one line."""
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(self.outcomes.items()))
        parts = [
            f"{self.outcomes.total()} answers of {self.runs} runs: {counts or 'none'}",
            f"{self.asked} questions asked, {self.found} known already",
        ]
        if self.spent.tokens:
            parts.append(f"{sum(self.spent.tokens.values())} tokens")
        if self.spent.dollars:
            parts.append(f"${sum(self.spent.dollars.values()):.4f}")
        if self.served:
            parts.append(f"answered by {', '.join(self.served)}")
        return "; ".join([*parts, *(f"{n} {said}" for said, n in sorted(self.notes.items()))])


def protocol_of(folders: Sequence[Path], given: str) -> Path:
    """Find the protocol file that says who judges: the one given, or the runs' own."""
    names = {str(store.read_json(folder / "spec.json")["protocol"]) for folder in folders}
    if not given and len(names) > 1:
        raise PlumblineError(f"the runs are of several protocols ({', '.join(sorted(names))})")
    own = given or names.pop()
    return plugins.protocol_file(ANY if own == EXTERNAL else own)


def runs_under(place: Path) -> list[Path]:
    """Find the finished runs in a folder: a run's own, a row's, a benchmark's, a protocol's."""
    folders = sorted(p.parent for p in place.rglob("spec.json")) if place.is_dir() else []
    done = [folder for folder in folders if store.is_done(folder)]
    if not done:
        why = "has no finished run in it" if folders else "is no folder with runs in it"
        raise PlumblineError(
            f"{place} {why}; RUN= takes results/runs/<protocol>-<hash>, or a benchmark, a row or a "
            "run in it"
        )
    return done


def rejudge(
    setting: Setting,
    folders: Sequence[Path],
    judge: str,
    how: Judging,
    *,
    say: Callable[[str], None],
) -> Judged:
    """Judge finished runs; what has a verdict of this judge already is not judged again.

    Says one line a run.  Raises PlumblineError where the judge cannot be asked; what
    was judged before that stays.
    """
    total, reading = Judged(), None
    for folder in folders:
        spec = store.verify(folder)
        if how.benchmarks is not None and spec["benchmark"] not in how.benchmarks:
            continue
        if reading is None:
            results = store.Store.of(folder)
            reading = judge_reading(setting, results, judge, how, Instruments())
        reference = _reference(folder, spec) if _needs_run(reading) else None
        what = f"{spec['method']} on {spec['benchmark']}"
        with store.opened(folder, spec):
            before = len(store.read_lines(folder / "ledger.jsonl"))
            found = scoring.bring(setting, what, folder, [reading], prompts_of(folder), reference)
            for line in store.read_lines(folder / "ledger.jsonl")[before:]:
                total.spent += Ledger.from_json(line)
        scores = store.scores(folder, reading.column).values()
        outcomes = Counter(score.outcome for score in scores)
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(outcomes.items()))
        say(f"{spec['benchmark']}  {spec['method']}  {reading.column}: {counts or 'no verdict'}")
        total.runs += 1
        total.outcomes += outcomes
        total.notes.update(found)
    if reading is None or reading.kept is None:
        raise PlumblineError(f"judge {judge} is for {how.benchmarks}, and no such run is there")
    total.asked, total.found = reading.kept.asked, reading.kept.found
    total.notes.update(reading.kept.troubles)
    total.served = sorted(reading.kept.served)
    return total


def _needs_run(reading: Reading) -> bool:
    return reading.scorer.against and reading.against == REFERENCE


def _reference(folder: Path, spec: dict[str, Json]) -> Path:
    """Find the finished run of unsteered that a run is compared with."""
    for other in _runs(folder.parent.parent / REFERENCE):
        theirs = store.read_json(other / "spec.json")
        if all(theirs.get(name) == spec.get(name) for name in SAME):
            return other
    raise PlumblineError(
        f"{folder}: there is no finished run of {REFERENCE} over the same prompts, seed and "
        "sampling to compare with; `make bench METHOD=unsteered` makes it, AGAINST=reference "
        "compares with the set's own answers"
    )


def _runs(stack: Path) -> Iterator[Path]:
    for path in sorted(stack.glob("*/spec.json")):
        if store.is_done(path.parent):
            yield path.parent


def prompts_of(folder: Path) -> list[Prompt]:
    """Read what a run was asked, as it was asked."""
    return [
        Prompt(
            id=line["id"],
            chat=Chat.from_dicts(line["chat"]),
            turns=tuple(line["turns"]),
            reference=line["reference"],
            cluster=line["cluster"],
            category=line["category"],
            further=tuple(line.get("further", ())),
        )
        for line in store.read_lines(folder / "prompts.jsonl")
    ]


# ------------------------------------------------------------------ JUDGE=


def named(words: str, known: dict[str, Judging], given: dict[str, Json]) -> tuple[str, Judging]:
    """Read JUDGE=: a judge of the protocol, or ``judge@openai/model``, ``@local/…``, ``@world/…``.

    given  fields of the command line that stand above the protocol's.
    """
    name, _, by = words.partition("@")
    fields: dict[str, Json] = {}
    if not by:
        if name not in known:
            raise PlumblineError(
                f"judge {name!r} is not under [judging] of the protocol "
                f"({', '.join(known) or 'nobody is'}); say who answers: "
                f"JUDGE={name}@openai/<model>, JUDGE={name}@local/<folder>"
            )
        fields = known[name].model_dump(exclude_unset=True)
    else:
        backend, _, model = by.partition("/")
        keys = {"openai": "model", "local": "path", "hf": "path", "world": "role"}
        if backend not in keys or not model:
            raise PlumblineError(
                f"JUDGE={words}: after @ comes openai/<model>, local/<folder or Hub name> or "
                f"world/<role>, not {by!r}"
            )
        fields = {"backend": "local" if backend == "hf" else backend, keys[backend]: model}
        if fields["backend"] == "local":
            path, _, revision = model.partition(":")
            fields |= {"path": path, "revision": revision or None, "unpinned": True}
    fields |= {key: value for key, value in given.items() if value is not None}
    try:
        return name, Judging(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise PlumblineError(f"JUDGE={words}: {place + ': ' if place else ''}{said}") from None


def overrides(prices: str, **fields: Json) -> dict[str, Json]:
    """Give the fields of a command line that stand above the protocol's."""
    if prices:
        try:
            fields["price_in"], fields["price_out"] = (float(word) for word in prices.split(","))
        except ValueError:
            raise PlumblineError(
                f"PRICES is {prices!r}; it must be dollars per million tokens in and out, such as "
                "0.4,1.6"
            ) from None
    return fields
