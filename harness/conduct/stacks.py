"""``METHOD=`` and ``SET=`` become the stacks of a command.

A name may also be a preset: what the literature calls one setting of a method.  It stands
for that method with those fields, and the row is labelled as if they had been written out.
"""

from __future__ import annotations

from pathlib import Path

from harness.conduct import coerce, fractions, plugins
from harness.conduct.grammar import Part, parse_rows, parse_settings
from harness.contracts.method import Named, Stack
from harness.errors import PlumblineError, unknown


def stacks(text: str, settings: str = "") -> list[Stack]:
    """Turn ``METHOD=`` and ``SET=`` into stacks; the same row twice is one row."""
    return [stack for stack, _ in rows(text, settings)]


def rows(text: str, settings: str = "") -> list[tuple[Stack, bool]]:
    """Give each stack, and whether some field of it was written, in either place."""
    overrides = parse_settings(settings)
    wanted = [tuple(map(_meant, row)) for written in parse_rows(text) for row in _spread(written)]
    named = {part.name for row in wanted for part in row}
    stems = {name: Path(name).stem if name.endswith(".py") else name for name in named}
    for name, field, _ in overrides:
        if name not in stems.values():
            raise unknown(f"method (SET {name}.{field}) among those that run", name, stems.values())
    found: dict[str, tuple[Stack, bool]] = {}
    for row in wanted:
        parts, spoken = [], False
        for part in row:
            name, cls, file = plugins.method_class(part.name)
            given = {field: value for target, field, value in overrides if target == name}
            where = str(file or cls.__module__)
            fields = given | dict(part.fields)
            spoken = spoken or bool(fields)
            fraction = fractions.taken(cls, name, fields)
            parts.append(Named(name, coerce.build(cls, name, where, fields), fraction))
        stack = Stack(tuple(parts))
        found.setdefault(stack.label, (stack, spoken))
    return list(found.values())


def _spread(row: tuple[Part, ...]) -> list[tuple[Part, ...]]:
    if not any(part.name == "all" for part in row):
        return [row]
    if len(row) > 1 or row[0].fields:
        raise PlumblineError("METHOD: 'all' stands alone; it takes no fields and no '+'")
    return [(Part(one.name),) for one in plugins.methods()]


def _meant(part: Part) -> Part:
    """Write a preset out; any other name is left as it is."""
    known = {one.name for one in plugins.methods()}
    if part.name in known or part.name.endswith(".py") or "/" in part.name:
        return part
    for name, cls in plugins.own_methods():
        fields = cls.presets.get(part.name)
        if fields is not None:
            given = dict(part.fields)
            return Part(name, tuple({**{k: str(v) for k, v in fields.items()}, **given}.items()))
    return part
