"""JSON and JSONL files, plain or gzipped, read into items that know where they stand."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from harness.errors import PlumblineError
from harness.records import Json

GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"


class Item(dict[str, Json]):
    """A raw item as its set publishes it.

    where      file and line, for messages.
    reference  whether it comes from what the source names as its references.
    """

    def __init__(self, fields: Mapping[str, Json], where: str, *, reference: bool = False) -> None:
        super().__init__(fields)
        self.where = where
        self.reference = reference


def read_items(path: Path, name: str | None = None) -> Iterator[Item]:
    """Give the objects of a .jsonl file, one a line, or of a .json file.

    A .json file holds a list of objects, or one object, which is then the only item; one that
    holds an object a line is read as lines.  Raises PlumblineError, with the line number, for a
    file that is missing, broken, not UTF-8, or of another shape.
    """
    name = name or str(path)
    if not path.exists():
        raise PlumblineError(f"{name}: no such file")
    if path.is_dir():
        raise PlumblineError(f"{name}: a folder; a .jsonl or .json file is read, plain or .gz")
    if path.name.removesuffix(".gz").endswith(".json"):
        return _whole(path, name)
    return _lines(path, name)


def records(values: Iterable[Json], where: Callable[[int], str]) -> Iterator[Item]:
    """Turn objects into items; raises PlumblineError for a value that is no object."""
    for number, value in enumerate(values, 1):
        yield _item(value, where(number))


def _item(value: Json, where: str) -> Item:
    if not isinstance(value, Mapping):
        raise PlumblineError(f"{where}: {_kind(value)} where an object is expected")
    return Item(value, where)


def _whole(path: Path, name: str) -> Iterator[Item]:
    with _open(path) as stream:
        data = _guarded(stream.read, name)
    words = _decoded(data, name)
    try:
        value = json.loads(words)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # an object a line, whatever the file is called
            yield from _lines(path, name)
            return
        raise PlumblineError(f"{name}: line {error.lineno}: broken JSON ({error.msg})") from error
    if isinstance(value, list):
        yield from records(value, lambda i: f"{name}: entry {i}")
    elif isinstance(value, dict):
        yield Item(value, name)
    else:
        raise PlumblineError(f"{name}: {_kind(value)} where a list or an object is expected")


def _lines(path: Path, name: str) -> Iterator[Item]:
    """Read an object a line; only a newline ends a line, whatever Unicode holds for one."""
    with _open(path) as stream:
        number = 0
        while line := _guarded(stream.readline, name):
            number += 1
            where = f"{name}: line {number}"
            words = _decoded(line, name, number)
            if not words.strip():
                continue
            try:
                value = json.loads(words)
            except json.JSONDecodeError as error:
                raise PlumblineError(f"{where}: broken JSON ({error.msg})") from error
            yield _item(value, where)


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Open a file for reading, unpacked if its first bytes say that it is packed."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise PlumblineError(f"{path}: {error.strerror}") from error
    packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    stream.seek(0)
    if not packed:
        return stream
    stream.close()
    return gzip.open(path, "rb")


def _guarded(read: Callable[[], bytes], name: str) -> bytes:
    try:
        return read()
    except (OSError, EOFError, zlib.error) as error:
        raise PlumblineError(f"{name}: cannot be read to its end ({error})") from error


def _decoded(data: bytes, name: str, first_line: int = 1) -> str:
    """Decode UTF-8; a byte order mark at the start is no part of the text."""
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        at = error.start + (len(BOM) if data.startswith(BOM) else 0)
        line = first_line + data.count(b"\n", 0, at)
        column = at - data.rfind(b"\n", 0, at)
        raise PlumblineError(
            f"{name}: line {line}: not UTF-8 (byte {column} of the line is {data[at]:#04x})"
        ) from error


def _kind(value: Json) -> str:
    names = {list: "a list", dict: "an object", str: "a string", type(None): "null"}
    return names.get(type(value), "a number")
