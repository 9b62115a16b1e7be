"""A string from the command line becomes the value a dataclass field asks for, or an error.

Strict on purpose: ``n=3.0`` is not an int, ``flag=1`` is not a bool.
"""

from __future__ import annotations

import math
import types
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from harness.errors import PlumblineError, unknown


class UnfitError(Exception):
    """The string is no value of this type."""


def build(cls: type[Any], name: str, where: str, settings: dict[str, str]) -> Any:
    """Build ``cls`` from its defaults and the given strings.

    name   how the user calls it; where: the file it comes from (both for messages).
    Raises for a field that does not exist, a value of another type, and a value
    the class itself refuses.
    """
    if not is_dataclass(cls):
        raise PlumblineError(f"{where}: {cls.__name__} must be a frozen dataclass")
    known = [f.name for f in fields(cls) if f.init]
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for field, text in settings.items():
        if field not in known:
            raise unknown(f"field of method {name} ({where})", field, known)
        try:
            values[field] = coerce(text, hints[field])
        except UnfitError:
            raise PlumblineError(
                f"{name}.{field}={text}: not {accepted(hints[field])} (declared in {where})"
            ) from None
    try:
        return cls(**values)
    except (PlumblineError, ValueError, TypeError, AssertionError) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in values.items()) or "its defaults"
        raise PlumblineError(f"{name} ({where}) refuses {given}: {error}") from error


def coerce(text: str, kind: Any) -> Any:
    """Turn ``text`` into a value of the annotation ``kind``; raises ``UnfitError``."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        for choice in args:
            if str(choice).lower() == text.lower():
                return choice
        raise UnfitError
    if origin in (Union, types.UnionType):
        return _first(text, args)
    if kind is tuple or origin is tuple:
        return _tuple(text, args)
    if kind is type(None):
        if text.lower() in ("none", "null"):
            return None
        raise UnfitError
    if kind is bool:
        return _bool(text)
    if kind is int:
        return _number(text, int)
    if kind is float:
        return _number(text, float)
    if kind is str or kind is Any:
        return text
    raise UnfitError


def accepted(kind: Any) -> str:
    """Say in words what ``coerce`` takes for this annotation."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in args)
    if origin in (Union, types.UnionType):
        return " or ".join(accepted(arg) for arg in args)
    if origin is tuple:
        inner = accepted(args[0]) if args else "anything"
        return f"a list such as (a,b) of {inner}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if kind is type(None):
        return "none"
    return words.get(kind, f"settable from the command line (its type is {kind})")


def _first(text: str, kinds: tuple[Any, ...]) -> Any:
    # None and the stricter types first: "none" is not a word where None is a choice.
    order = sorted(kinds, key=lambda k: (k is not type(None), k is str or k is Any))
    for kind in order:
        try:
            return coerce(text, kind)
        except UnfitError:
            continue
    raise UnfitError


def _tuple(text: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    inner = text.strip()
    if inner[:1] in ("(", "[") and inner[-1:] in (")", "]"):
        inner = inner[1:-1]
    items = [item.strip() for item in inner.split(",") if item.strip()]
    if not args:
        return tuple(items)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(coerce(item, args[0]) for item in items)
    if len(items) != len(args):
        raise UnfitError
    return tuple(coerce(item, kind) for item, kind in zip(items, args, strict=True))


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise UnfitError
    return text.lower() == "true"


def _number(text: str, kind: type[int] | type[float]) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        raise UnfitError from None
    if math.isnan(value):
        raise UnfitError
    return value
