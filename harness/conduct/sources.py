"""A name in the protocol -> raw items: from a world, a local file, a data set at a revision.

    {"world": "hh_rlhf"}                         a file under the world's items/
    {"file": "data/question.jsonl"}              jsonl or json, plain or gz; or a folder
                                                 with question.jsonl (and reference_answer/)
    {"dataset": "org/name", "revision": sha, "split": ..., "config": ..., "data_dir": ...}
    {"dataset": "org/name", "revision": sha, "data_files": "one.json"}

Any of them may name a further source under ``references``: reference answers in a file of their
own, handed out after the items and marked.  Data sets come without running their code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from harness.conduct.files import Item, read_items, records
from harness.conduct.overlap import overlap
from harness.conduct.worlds import world_folder
from harness.errors import PlumblineError, unknown
from harness.records import Json

__all__ = ["load_items", "overlap", "world_file", "world_folder"]

KINDS: dict[str, frozenset[str]] = {
    "world": frozenset({"references"}),
    "file": frozenset({"references"}),
    "dataset": frozenset(
        {"revision", "split", "config", "data_dir", "data_files", "unpinned", "references"}
    ),
}
SUFFIXES = ("", ".jsonl", ".json", ".jsonl.gz", ".json.gz")
READABLE = tuple(suffix for suffix in SUFFIXES if suffix)
COMMIT = re.compile(r"[0-9a-f]{40}")


def load_items(source: Mapping[str, Json], world_folder: Path | None) -> Iterator[Item]:
    """Give the raw items of a source, each knowing where it stands.

    world_folder  the folder of the protocol's built world, if it names one.

    Raises PlumblineError, in one line that names the file and the place in it, for a source
    that is not there, cannot be read, or holds nothing.
    """
    items = _named(source, world_folder)
    if "references" not in source:
        return items
    answers = _named(source["references"], world_folder)
    return chain(items, (Item(item, item.where, reference=True) for item in answers))


def _named(source: Mapping[str, Json], world: Path | None) -> Iterator[Item]:
    """Give the items of one source; raises PlumblineError where there is none."""
    kind = _kind(source)
    name = str(source[kind])
    if kind == "dataset":
        _check_revision(source)
        items = _dataset(source)
    else:
        items = _file(world_file(name, world) if kind == "world" else Path(name).expanduser())
    first = next(items, None)
    if first is None:
        raise PlumblineError(f"{name}: no item in it")
    return chain([first], items)


def world_file(name: str, world: Path | None) -> Path:
    """Find a world's item file by its name; raises for one that does not exist."""
    if world is None:
        raise PlumblineError(
            f'items are asked of a world ({{world = "{name}"}}), and the protocol names no world '
            "under [model]"
        )
    items = world / "items"
    for suffix in SUFFIXES:
        path = items / f"{name}{suffix}"
        if path.exists():
            return path
    there = {p.name.removesuffix(".gz").rsplit(".", 1)[0] for p in items.glob("*")}
    raise unknown("items of the world", name, there)


def _kind(source: Mapping[str, Json]) -> str:
    kinds = [kind for kind in KINDS if kind in source]
    if len(kinds) != 1:
        said = ", ".join(sorted(source)) or "nothing"
        raise PlumblineError(f"a data source needs one of {', '.join(KINDS)}; this one has {said}")
    extra = sorted(set(source) - KINDS[kinds[0]] - {kinds[0]})
    if extra:
        raise unknown(f"field of a {kinds[0]} source", extra[0], KINDS[kinds[0]])
    return kinds[0]


def _file(path: Path) -> Iterator[Item]:
    """Read a file, or a folder laid out as FastChat's data/mt_bench."""
    if not path.is_dir():
        return read_items(path)
    answers = sorted((path / "reference_answer").glob("*.jsonl*"))
    if len(answers) > 1:
        names = ", ".join(p.name for p in answers)
        raise PlumblineError(f"{path}/reference_answer holds more than one file: {names}")
    return chain.from_iterable(read_items(p) for p in (path / "question.jsonl", *answers))


# ---------------------------------------------------------------- data sets


def _check_revision(source: Mapping[str, Json]) -> None:
    name, revision = source["dataset"], source.get("revision")
    if not revision:
        raise PlumblineError(
            f"data set {name} has no revision; name the commit (40 hex digits) that is meant"
        )
    if not COMMIT.fullmatch(str(revision)) and not source.get("unpinned"):
        raise PlumblineError(
            f"data set {name}: revision {revision!r} is no commit (40 hex digits); a branch may "
            "change under a table, so it is accepted only with unpinned = true"
        )


def _dataset(source: Mapping[str, Json]) -> Iterator[Item]:
    """Give the rows of a data set: named JSON files as files, all else through ``datasets``."""
    name, revision = str(source["dataset"]), str(source["revision"])
    files = source.get("data_files")
    names = [files] if isinstance(files, str) else list(files or [])
    where = f"data set {name}@{revision[:7]}"
    if names and all(isinstance(n, str) and n.endswith(READABLE) for n in names):
        paths = [_from_hub(partial(_download, name, n, revision), where) for n in names]
        return chain.from_iterable(
            read_items(path, f"{where} {n}") for path, n in zip(paths, names, strict=True)
        )
    if "split" not in source:
        raise PlumblineError(f'{where}: a data set needs a split, such as split = "test"')
    rows = _from_hub(partial(_rows, source), where)
    return records(rows, lambda i: f"{where} row {i}")


def _download(name: str, file: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, file, repo_type="dataset", revision=revision))


def _rows(source: Mapping[str, Json]) -> Any:
    from datasets import load_dataset

    options = {k: source[k] for k in ("data_dir", "data_files") if k in source}
    return load_dataset(
        source["dataset"],
        source.get("config"),
        split=source["split"],
        revision=source["revision"],
        **options,
    )


def _from_hub(call: Callable[[], Any], where: str) -> Any:
    """Call into the Hub's libraries, whose failures are many, and give one clear line."""
    try:
        return call()
    except PlumblineError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise PlumblineError(f"{where} cannot be loaded: {why}") from error
