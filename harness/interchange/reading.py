"""What kind of file it is, its records by key, and one clear line for whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from harness.conduct.files import Item, read_items
from harness.errors import PlumblineError
from harness.records import Json

Kind = Literal[
    "outputs",
    "annotations",
    "answers",
    "questions",
    "single judgments",
    "pair judgments",
    "samples",
    "results",
]
# Fields that tell a file's kind; the first line that fits decides.
SIGNS: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("annotations", frozenset({"instruction", "preference"})),
    ("outputs", frozenset({"instruction", "output"})),
    ("answers", frozenset({"question_id", "choices"})),
    ("pair judgments", frozenset({"question_id", "g1_winner", "g2_winner"})),
    ("single judgments", frozenset({"question_id", "judge", "score"})),
    ("questions", frozenset({"question_id", "turns"})),
    ("samples", frozenset({"doc_id", "resps"})),
    ("results", frozenset({"results", "versions"})),
)
FAMILY: Mapping[Kind, str] = {
    "annotations": "alpaca_eval",
    "outputs": "alpaca_eval",
    "answers": "fastchat",
    "questions": "fastchat",
    "pair judgments": "fastchat",
    "single judgments": "fastchat",
    "samples": "lm_eval",
    "results": "lm_eval",
}
NAMED = 8  # so many of what is missing or repeated are named
T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """A file's records and what kind they are."""

    path: Path
    kind: Kind
    items: tuple[Item, ...]

    @property
    def name(self) -> str:
        """Name it in messages."""
        return str(self.path)


def read(path: Path) -> File:
    """Read a file and find out what it is.

    Raises PlumblineError for one that is empty, or of no kind that is known.
    """
    items = tuple(read_items(path))
    if not items:
        raise PlumblineError(f"{path}: nothing in it")
    fields = set(items[0])
    for kind, needed in SIGNS:
        if needed <= fields:
            return File(path, kind, items)
    raise PlumblineError(
        f"{path} is none of AlpacaEval's model outputs or annotations, FastChat's answers, "
        f"judgments or questions, lm-eval's samples or results; its first record has "
        f"{', '.join(sorted(map(repr, fields)))[:200] or 'no field'}"
    )


def field(item: Mapping[str, Json], name: str, kind: type[T]) -> T:
    """Read a field of a type; raises PlumblineError, with its place, where it is not one."""
    value = item.get(name)
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
        where = getattr(item, "where", "a record")
        there = f"is a {type(value).__name__}" if name in item else "is missing"
        raise PlumblineError(f"{where}: field {name!r} {there}; it must be a {kind.__name__}")
    return value  # type: ignore[return-value]


def by_key(
    items: Iterable[Item], key: Callable[[Item], str], what: str, name: str
) -> dict[str, Item]:
    """Give records by key; raises PlumblineError that names keys which occur twice."""
    found: dict[str, Item] = {}
    repeated: dict[str, None] = {}
    for item in items:
        if key(item) in found:
            repeated[key(item)] = None
        found[key(item)] = item
    if repeated:
        raise PlumblineError(f"{name}: {named(list(repeated), what)} occur more than once")
    return found


def named(missing: Sequence[str], what: str) -> str:
    """Say how many of what, and which: "3 questions (126, 127, 128)"."""
    shown = ", ".join(_short(one) for one in missing[:NAMED])
    more = ", …" if len(missing) > NAMED else ""
    return f"{len(missing)} {what} ({shown}{more})"


def only(values: Iterable[str], what: str, name: str) -> str:
    """Give the one value a column has; raises PlumblineError where it has several."""
    found = sorted(set(values))
    if len(found) != 1:
        raise PlumblineError(
            f"{name}: one {what} a file, please; this one has {', '.join(found[:NAMED]) or 'none'}"
        )
    return found[0]


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 60 else f"{one[:57]}…"
