"""What the four readers share: fields with clear errors, and stable ids."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from harness.api import Json, PlumblineError, Read


def digest(*words: str) -> str:
    """Hash words to twelve hex digits, so that an id says nothing of what it names."""
    return hashlib.blake2b("\x1f".join(words).encode(), digest_size=6).hexdigest()


class Ids:
    """Gives each item an id that depends on its words and on how often they came before."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __call__(self, *words: str) -> str:
        key = digest(*words)
        self._seen[key] += 1
        return key if self._seen[key] == 1 else f"{key}-{self._seen[key]}"


def place(item: Mapping[str, Json], number: int) -> str:
    """Say where an item stands: file and line where the source knows them, else its number."""
    return str(getattr(item, "where", f"item {number}"))


def is_reference(item: Mapping[str, Json]) -> bool:
    """Say whether the item comes from what the source names as its references."""
    return bool(getattr(item, "reference", False))


def text(item: Mapping[str, Json], field: str, number: int) -> str:
    """Read a field that must be a string; raises PlumblineError where it is not one."""
    if field not in item:
        has = ", ".join(sorted(map(repr, item)))[:200] or "nothing"
        raise PlumblineError(f"{place(item, number)}: no field {field!r}; it has {has}")
    value = item[field]
    if not isinstance(value, str):
        raise PlumblineError(
            f"{place(item, number)}: field {field!r} is a {type(value).__name__}; "
            "it must be a string"
        )
    return whole(value, place(item, number))


def whole(words: str, where: str) -> str:
    """Give the words back; raises PlumblineError for half a surrogate pair, which no file holds."""
    try:
        words.encode()
    except UnicodeEncodeError as error:
        raise PlumblineError(
            f"{where}: half a surrogate pair at character {error.start}; it is no text"
        ) from error
    return words


def texts(item: Mapping[str, Json], field: str, number: int) -> tuple[str, ...]:
    """Read a field that must be a list of strings; raises PlumblineError where it is not."""
    value = item.get(field)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise PlumblineError(
            f"{place(item, number)}: field {field!r} must be a list of strings"
            + ("" if field in item else "; it is missing")
        )
    return tuple(whole(v, place(item, number)) for v in value)


def cluster(item: Mapping[str, Json], otherwise: str, number: int) -> str:
    """Give the item's cluster: its ``task``, which worlds write, or the set's own unit."""
    task = str(item.get("task") or "")
    return whole(task, place(item, number)) or otherwise


def usable(read: Read, title: str) -> Read:
    """Give the reading back; raises PlumblineError where nothing can be asked."""
    if not read.prompts:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(read.notes.items()))
        raise PlumblineError(f"{title}: no usable item ({why or 'the source is empty'})")
    return read
