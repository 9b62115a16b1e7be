"""The little language of ``METHOD=`` and ``SET=``: what stands in the string, not what it means.

    METHOD = row ("," row)*          row  = part ("+" part)*
    part   = name [ "(" field=value ("," field=value)* ")" ]
    SET    = name.field=value, separated by blanks

A name is a method's, ``all``, or a path to a Python file.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import PlumblineError

_OPEN, _CLOSE, _QUOTES = "([", ")]", "'\""


@dataclass(frozen=True)
class Part:
    """One method as written: its name, and its fields as strings."""

    name: str
    fields: tuple[tuple[str, str], ...] = ()


def parse_rows(text: str) -> list[tuple[Part, ...]]:
    """Read ``a,b(field=value)+c`` into rows of parts; raises for anything else."""
    return [
        tuple(_part(part, text) for part in _split(row, "+", text))
        for row in _split(text, ",", text)
    ]


def parse_settings(text: str) -> list[tuple[str, str, str]]:
    """Read ``name.field=value name.field=value`` into (name, field, value) triples."""
    triples = []
    for word in _split(text, " ", text, blank=True):
        left, sign, value = word.partition("=")
        name, dot, field = left.rpartition(".")
        if not (sign and dot and name.strip() and field.strip()):
            raise PlumblineError(f"SET: cannot read {word!r}; it must be method.field=value")
        triples.append((name.strip(), field.strip(), _unquoted(value)))
    return triples


def _part(text: str, whole: str) -> Part:
    name, bracket, rest = text.partition("(")
    if not bracket:
        return Part(name.strip())
    if not rest.rstrip().endswith(")") or not name.strip():
        raise PlumblineError(
            f"METHOD: cannot read {text!r} in {whole!r}; "
            "it must be name or name(field=value,field=value)"
        )
    inner = rest.rstrip()[:-1]
    fields = []
    for pair in _split(inner, ",", whole, blank=True):
        field, sign, value = pair.partition("=")
        if not sign or not field.strip():
            raise PlumblineError(f"METHOD: {pair!r} in {text!r} must be field=value")
        fields.append((field.strip(), _unquoted(value)))
    return Part(name.strip(), tuple(fields))


def _unquoted(value: str) -> str:
    value = value.strip()
    quoted = len(value) > 1 and value[0] in _QUOTES and value[-1] == value[0]
    return value[1:-1] if quoted else value


def _split(text: str, at: str, whole: str, *, blank: bool = False) -> list[str]:
    """Split at ``at`` outside brackets and quotes; empty pieces are refused unless ``blank``."""
    pieces, current, depth, quote = [], "", 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in _QUOTES:
            quote = char
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        if depth < 0:
            raise PlumblineError(f"a closing bracket too many in {whole!r}")
        if char == at and depth == 0 and not quote:
            pieces.append(current)
            current = ""
        else:
            current += char
    if depth or quote:
        raise PlumblineError(f"an open bracket or quote in {whole!r} is never closed")
    pieces.append(current)
    kept = [piece.strip() for piece in pieces if piece.strip()]
    if not blank and len(kept) != len(pieces):
        raise PlumblineError(f"METHOD: there is an empty name in {whole!r}")
    return kept
