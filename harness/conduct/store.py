"""What a run leaves on disk, and how it survives being killed.

Files of records are append-only JSON lines, flushed and synced once a batch.
A batch is committed by its line in ``ledger.jsonl``; whatever was appended
after the last committed batch is cut off when the run is taken up again, so a
killed run loses the batch in flight and nothing else.  ``done`` is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import PlumblineError
from harness.records import Json, Prompt, Response, Score


class StoreError(PlumblineError):
    """The results folder cannot be written or cannot be trusted; no cell can go on."""


def canonical(value: Json) -> str:
    """Give the one JSON text of a value: sorted keys, no blanks, no NaN."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def digest(value: Json) -> str:
    """Give the first ten hex digits of blake2b over the canonical JSON."""
    return hashlib.blake2b(_bytes(canonical(value))).hexdigest()[:10]


def key(spec: Mapping[str, Json]) -> str:
    """Name a folder after its spec; the words over a table ("about") change no answer."""
    return digest({name: value for name, value in spec.items() if name != "about"})


def plain(name: str) -> str:
    """Make a name fit to be a file's: letters, digits and ``._+-``; a slash becomes a dash."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


# ---------------------------------------------------------------- folders


@dataclass(frozen=True)
class Store:
    """The results folder: every path in it is made here."""

    root: Path

    @classmethod
    def of(cls, run: Path) -> Store:
        """Give the results folder that a run's folder lies in."""
        return cls(run.parents[4])

    def fit(self, terms: str, stack: str, spec: Mapping[str, Json]) -> Path:
        """Folder of one fit; ``terms`` is ``<protocol>-<hash>``."""
        return self.root / "fits" / terms / stack / key(spec)

    def cell(self, terms: str, benchmark: str, stack: str) -> Path:
        """Folder of every run of one stack on one benchmark."""
        return self.root / "runs" / terms / benchmark / stack

    def run(self, terms: str, benchmark: str, stack: str, spec: Mapping[str, Json]) -> Path:
        """Folder of one run."""
        return self.cell(terms, benchmark, stack) / key(spec)

    def tuned(self, terms: str, stack: str, spec: Mapping[str, Json]) -> Path:
        """Folder of one tuning of one stack."""
        return self.root / "tuned" / terms / stack / key(spec)

    def frontier(self, terms: str, benchmark: str, spec: Mapping[str, Json]) -> Path:
        """Folder of the base answers of one benchmark."""
        return self.root / "frontiers" / terms / benchmark / key(spec)

    def verdicts(self, judge: str, backend: str, identity: Mapping[str, Json]) -> Path:
        """File of all replies of one judge over one backend, in whichever run it was asked."""
        return self.root / "verdicts" / judge / f"{plain(backend)}-{digest(identity)}.jsonl"

    def check(self) -> None:
        """Raise, before anything is computed, where nothing could be stored."""
        with _guarded(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass

    def protocols(self) -> list[str]:
        """Name the protocols that have runs."""
        runs = self.root / "runs"
        folders = [p.name for p in runs.iterdir() if p.is_dir()] if runs.is_dir() else []
        return sorted({name.rpartition("-")[0] for name in folders})


@contextmanager
def opened(folder: Path, spec: Mapping[str, Json], waiting: str = "") -> Iterator[Path]:
    """Hold a run's or a fit's folder: lock it, write or verify its ``spec.json``.

    Another process that holds it is waited for (``waiting`` is printed once), so
    two commands at once do the work once.
    """
    with _guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", waiting):
        path = folder / "spec.json"
        if path.exists():
            verify(folder)
        else:
            write_json(path, spec)
        yield folder


def verify(folder: Path) -> dict[str, Json]:
    """Read ``spec.json`` and check that it is the one the folder is named after."""
    spec: dict[str, Json] = read_json(folder / "spec.json")
    if key(spec) != folder.name:
        raise StoreError(
            f"{folder / 'spec.json'} was changed after the run (its hash is {key(spec)}, the "
            f"folder says {folder.name}); move the folder away or restore the file"
        )
    return spec


@contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold an exclusive lock; it falls when the process ends, however it ends."""
    import fcntl
    import sys

    with _guarded(path):
        handle = path.open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting or f"waiting for the process that holds {path}", file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def is_done(folder: Path) -> bool:
    """Say whether the run or fit was finished."""
    return (folder / "done").exists()


def mark_done(folder: Path) -> None:
    """Write ``done``, the last file of all."""
    write_text(folder / "done", "")


# ---------------------------------------------------------------- files


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: a temporary sibling, synced, then renamed."""
    write_bytes(path, _bytes(text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with _guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def write_json(path: Path, value: Json) -> None:
    """Write one JSON document, readable."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Json:
    """Read one JSON document; a clear line where it is broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not readable JSON: {error}") from error


def append(path: Path, lines: Iterable[Mapping[str, Json]]) -> None:
    """Append JSON lines in one write, flushed and synced; on failure none of them stays."""
    content = b"".join(_bytes(json.dumps(line, ensure_ascii=False)) + b"\n" for line in lines)
    with _guarded(path):
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab", buffering=0) as file:
                written = 0
                while written < len(content):
                    written += file.write(content[written:]) or 0
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.truncate(path, before)
            raise


def append_shared(path: Path, line: Mapping[str, Json]) -> None:
    """Append one JSON line to a file that other processes append to; not synced.

    A line that somebody who was killed has torn is closed first, so that it spoils
    no other.
    """
    import fcntl

    content = _bytes(json.dumps(line, ensure_ascii=False)) + b"\n"
    with _guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                content = content if file.read(1) == b"\n" else b"\n" + content
            while content:
                content = content[file.write(content) or 0 :]


def read_shared(path: Path, start: int = 0) -> tuple[list[dict[str, Json]], int, int]:
    """Read what was appended after byte ``start``, whole lines only.

    Returns the lines, how many were torn, and where to go on from.
    """
    if not path.exists():
        return [], 0, 0
    with path.open("rb") as file:
        file.seek(start)
        block = file.read()
    end = block.rfind(b"\n") + 1
    lines, torn = [], 0
    for line in block[:end].split(b"\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            torn += 1
    return lines, torn, start + end


def read_lines(path: Path) -> list[dict[str, Json]]:
    """Read JSON lines; a torn last line does not count, a broken one elsewhere is an error."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    with suppress(ValueError):  # whole files are read at once, which takes half the time
        whole: list[dict[str, Json]] = json.loads(b"[%s]" % b",".join(lines[:-1]))
        if len(whole) == len(lines) - 1:
            return whole
    records = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is torn
        try:
            records.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise StoreError(
                f"{path}, line {number} is not JSON ({error}); remove that line to have it redone"
            ) from error
    return records


def mend(path: Path, keep: int | None = None) -> int:
    """Cut off a torn last line, and every line after the first ``keep``; say how many went."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    lines = content.split(b"\n")[:-1]
    kept = lines if keep is None else lines[:keep]
    length = sum(len(line) + 1 for line in kept)
    if length == len(content):
        return 0
    with _guarded(path):
        os.truncate(path, length)
    return len(lines) - len(kept) + (not content.endswith(b"\n"))


# ---------------------------------------------------------------- records of a run


def resume(folder: Path) -> dict[tuple[str, int], Response]:
    """Take a run up again: cut what no committed batch owns, give the responses that stay.

    Every decoding line of the ledger says how long ``responses.jsonl`` and
    ``pool.jsonl`` were when its batch was complete.
    """
    mend(folder / "ledger.jsonl")
    decoded = [line for line in read_lines(folder / "ledger.jsonl") if "responses" in line]
    if (folder / "ledger.jsonl").exists():
        last = decoded[-1] if decoded else {"responses": 0, "pool": 0}
        mend(folder / "responses.jsonl", int(last["responses"]))
        mend(folder / "pool.jsonl", int(last["pool"]))
    else:
        mend(folder / "responses.jsonl")
        mend(folder / "pool.jsonl")
        append(folder / "ledger.jsonl", [])
    return {r.key: r for r in responses(folder)}


def commit(
    folder: Path,
    answered: Sequence[Response],
    pool: Sequence[Mapping[str, Json]],
    ledger: Mapping[str, Json],
) -> None:
    """Append a finished batch; its ledger line, written last, makes it count."""
    append(folder / "responses.jsonl", [r.to_json() for r in answered])
    if pool:
        append(folder / "pool.jsonl", pool)
    counts = {
        "responses": _count(folder / "responses.jsonl"),
        "pool": _count(folder / "pool.jsonl"),
    }
    append(folder / "ledger.jsonl", [dict(ledger) | counts])


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def responses(folder: Path) -> list[Response]:
    """Read a run's responses, one per key."""
    read = (Response.from_json(line) for line in read_lines(folder / "responses.jsonl"))
    return list({r.key: r for r in read}.values())


def scores(folder: Path, scorer: str) -> dict[tuple[str, int], Score]:
    """Read one scorer's scores by key."""
    read = (Score.from_json(line) for line in read_lines(folder / f"scores.{scorer}.jsonl"))
    return {s.key: s for s in read}


def prompt_line(prompt: Prompt) -> dict[str, Json]:
    """Give the line that is stored for a prompt."""
    return {
        "id": prompt.id,
        "chat": prompt.chat.to_dicts(),
        "turns": list(prompt.turns),
        "reference": prompt.reference,
        "further": list(prompt.further),
        "cluster": prompt.cluster,
        "category": prompt.category,
        "tuned": False,
    }


def _bytes(text: str) -> bytes:
    # A lone surrogate (a plugin's text may hold one) becomes its JSON escape.
    return text.encode("utf-8", "backslashreplace")


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Turn the system's refusal into one clear line."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        what = error.strerror or str(error)
        raise StoreError(
            f"cannot write {path}: {what}; what was finished before is kept, "
            "and the same command goes on from there"
        ) from error
