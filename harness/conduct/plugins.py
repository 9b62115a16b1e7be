"""From a name to a class: methods, benchmarks, metrics, judges and worlds.

A folder is the registry.  ``methods/<name>.py`` holds one Method,
``benchmarks/<name>.py`` one Benchmark or a World named ``World``,
``benchmarks/metrics/<name>.py`` a scorer named ``Metric``,
``benchmarks/judges/<name>.{txt,py}`` a template and ``JUDGE``.  Outside methods
come by file path or by the entry point group ``plumbline.methods``.

The only user of importlib; nothing is imported before it is asked for.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.conduct import coerce
from harness.conduct.grammar import Part, parse_rows, parse_settings
from harness.contracts.benchmark import Benchmark
from harness.errors import PlumblineError, unknown

if TYPE_CHECKING:
    from harness.contracts.method import Method, Stack
    from harness.contracts.scorer import Instruments, Scorer
    from harness.contracts.world import World

ENTRY_POINTS = "plumbline.methods"


@dataclass(frozen=True)
class Listed:
    """A plugin as ``make list`` shows it: found, not yet imported."""

    name: str
    about: str
    file: Path


# ---------------------------------------------------------------- listing


def methods() -> list[Listed]:
    """List every method file."""
    return _in_folder(_folder("methods"))


def benchmarks() -> list[Listed]:
    """List every benchmark file; worlds are not benchmarks."""
    return [one for one in _in_folder(_folder("benchmarks")) if not _defines(one.file, "World")]


def worlds() -> list[Listed]:
    """List every module or package of ``benchmarks`` with a ``World``."""
    return [one for one in _in_folder(_folder("benchmarks")) if _defines(one.file, "World")]


def metrics() -> list[Listed]:
    """List every metric file."""
    return _in_folder(_folder("benchmarks") / "metrics")


def judges() -> list[Listed]:
    """List every judge: a template and a parser of the same name."""
    folder = _folder("benchmarks") / "judges"
    return [one for one in _in_folder(folder) if one.file.with_suffix(".txt").exists()]


def protocols() -> list[Listed]:
    """List every protocol file, with its ``[about]`` text."""
    import tomllib

    found = []
    for file in sorted((_folder("benchmarks") / "protocols").glob("*.toml")):
        try:
            about = tomllib.loads(file.read_text("utf-8")).get("about", {}).get("text", "")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            about = f"cannot be read: {error}"
        found.append(Listed(file.stem, str(about).strip().split("\n")[0], file))
    return found


def protocol_file(name: str) -> Path:
    """Find a protocol by name, or by the path of a TOML file."""
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise PlumblineError(f"protocol file {name} does not exist")
        return Path(name)
    known = {one.name: one.file for one in protocols()}
    if name not in known:
        raise unknown("protocol", name, known)
    return known[name]


# ---------------------------------------------------------------- loading


def method_class(name: str) -> tuple[str, type[Method], Path | None]:
    """Give (name, class, source file) of a method named, or found at a path."""
    from harness.contracts.method import Method

    if name.endswith(".py") or "/" in name:
        file = Path(name).expanduser()
        if not file.is_file():
            raise PlumblineError(f"method file {name} does not exist")
        module = _load_file(file)
        return file.stem, _only(module, Method, str(file)), file
    known = {one.name: one.file for one in methods()}
    outside = {point.name: point for point in _entry_points()}
    if name in known:
        module = _import(f"methods.{name}", known[name])
        return name, _only(module, Method, str(known[name])), known[name]
    if name in outside:
        return name, *_from_entry_point(outside[name], Method)
    raise unknown("method", name, {*known, *outside, "all"})


def benchmark(name: str) -> Benchmark:
    """Build a benchmark by name."""
    known = {one.name: one.file for one in benchmarks()}
    if name not in known:
        raise unknown("benchmark", name, known)
    built: Benchmark = _only(
        _import(f"benchmarks.{name}", known[name]), Benchmark, str(known[name])
    )()
    return built


def world(name: str, seed: int = 0) -> World:
    """Make (not yet build) a world by name."""
    known = {one.name: one.file for one in worlds()}
    if name not in known:
        raise unknown("world", name, known)
    made: World = _import(f"benchmarks.{name}", known[name]).World(seed)
    return made


def scorer(name: str, instruments: Instruments) -> Scorer:
    """Build a metric, or a judge over its backend, by name."""
    from harness.contracts.scorer import PairwiseScorer

    known_metrics = {one.name: one.file for one in metrics()}
    known_judges = {one.name: one.file for one in judges()}
    if name in known_metrics:
        module = _import(f"benchmarks.metrics.{name}", known_metrics[name])
        made: Scorer = _attribute(module, "Metric", known_metrics[name])(instruments)
        return made
    if name in known_judges:
        module = _import(f"benchmarks.judges.{name}", known_judges[name])
        return PairwiseScorer(instruments, name, _attribute(module, "JUDGE", known_judges[name]))
    raise unknown("metric or judge", name, {*known_metrics, *known_judges})


def judge_file(name: str) -> Path:
    """Find a judge's Python file; raises for a judge that does not exist."""
    known = {one.name: one.file for one in judges()}
    if name not in known:
        raise unknown("judge", name, known)
    return known[name]


def stacks(text: str, settings: str = "") -> list[Stack]:
    """Turn ``METHOD=`` and ``SET=`` into stacks; the same row twice is one row."""
    from harness.contracts.method import Named, Stack

    overrides = parse_settings(settings)
    rows = [row for written in parse_rows(text) for row in _spread(written)]
    named = {part.name for row in rows for part in row}
    stems = {name: Path(name).stem if name.endswith(".py") else name for name in named}
    for name, field, _ in overrides:
        if name not in stems.values():
            raise unknown(f"method (SET {name}.{field}) among those that run", name, stems.values())
    found: dict[str, Stack] = {}
    for row in rows:
        parts = []
        for part in row:
            name, cls, file = method_class(part.name)
            given = {field: value for target, field, value in overrides if target == name}
            where = str(file or cls.__module__)
            parts.append(Named(name, coerce.build(cls, name, where, given | dict(part.fields))))
        stack = Stack(tuple(parts))
        found.setdefault(stack.label, stack)
    return list(found.values())


def _spread(row: tuple[Part, ...]) -> list[tuple[Part, ...]]:
    if not any(part.name == "all" for part in row):
        return [row]
    if len(row) > 1 or row[0].fields:
        raise PlumblineError("METHOD: 'all' stands alone; it takes no fields and no '+'")
    return [(Part(one.name),) for one in methods()]


# ---------------------------------------------------------------- source text


def source_file(cls: type[Any]) -> Path | None:
    """Find the file a class was written in."""
    try:
        found = inspect.getsourcefile(cls)
    except TypeError:
        return None
    return Path(found) if found else None


def code_digest(file: Path | None) -> str:
    """Digest what a plugin file computes: its syntax tree without docstrings.

    The plugin's own helpers (``methods._x``) count too.  Part of a run's key, so
    that an edited method is run again and a corrected comment is not.
    """
    if file is None:
        return ""
    digest = hashlib.blake2b(digest_size=5)
    for text in _closure(file):
        digest.update(text.encode())
    return digest.hexdigest()


def _closure(file: Path) -> list[str]:
    seen: dict[Path, str] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("methods"):
                names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
                waiting += [
                    _folder("methods").parent / (n.replace(".", "/") + ".py") for n in names
                ]
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]):
                body[0] = ast.Pass()
        seen[path] = ast.dump(tree)
    return [seen[path] for path in sorted(seen)]


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


# ---------------------------------------------------------------- inside


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PlumblineError(
            f"the package {package!r} is not installed; run from the checkout: pip install -e ."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _in_folder(folder: Path) -> list[Listed]:
    files = [f for f in folder.glob("*.py") if not f.stem.startswith("_")]
    files += [f for f in folder.glob("*/__init__.py") if not f.parent.name.startswith("_")]
    names = {(f.parent.name if f.stem == "__init__" else f.stem): f for f in files}
    subfolders = {"metrics", "judges", "protocols", "cards"}
    return [
        Listed(name, _first_line(file), file)
        for name, file in sorted(names.items())
        if name not in subfolders
    ]


def _first_line(file: Path) -> str:
    try:
        doc = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    except (SyntaxError, ValueError) as error:
        return f"cannot be read: {error}"
    return doc.strip().split("\n")[0]


def _defines(file: Path, name: str) -> bool:
    """Say whether a module defines or imports ``name``, without importing it."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return False
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return True
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                return True
        if isinstance(node, ast.ImportFrom):
            ours = node.level > 0 or (node.module or "").startswith("benchmarks.")
            if any(alias.asname == name or (alias.name == name and ours) for alias in node.names):
                return True
    return False


def _import(module: str, file: Path) -> ModuleType:
    try:
        return importlib.import_module(module)
    except PlumblineError:
        raise
    except Exception as error:
        raise _broken(file, error) from error


def _load_file(file: Path) -> ModuleType:
    key = hashlib.blake2b(str(file.resolve()).encode(), digest_size=4).hexdigest()
    name = f"plumbline_outside_{file.stem}_{key}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PlumblineError(f"{file} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _broken(file, error) from error
    return module


def _broken(file: Path, error: Exception) -> PlumblineError:
    import traceback

    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).name == file.name and frame.lineno
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    place = f"{file}, line {line}" if line else str(file)
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return PlumblineError(f"{place} does not import: {type(error).__name__}: {message}")


def _only(module: ModuleType, base: type[Any], where: str) -> type[Any]:
    """Give the one concrete class of kind ``base`` that the module itself defines."""
    found = [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and issubclass(cls, base)
        and cls.__module__ == module.__name__
        and not cls.__name__.startswith("_")
    ]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise PlumblineError(
            f"{where} must define exactly one {base.__name__}; it defines {len(found)} ({names})"
        )
    if inspect.isabstract(found[0]):
        missing = ", ".join(sorted(getattr(found[0], "__abstractmethods__", ())))
        raise PlumblineError(f"{where}: {found[0].__name__} does not define {missing}")
    return found[0]


def _attribute(module: ModuleType, name: str, file: Path) -> Any:
    if not hasattr(module, name):
        raise PlumblineError(f"{file} must define {name}")
    return getattr(module, name)


def _entry_points() -> Iterator[importlib.metadata.EntryPoint]:
    yield from importlib.metadata.entry_points(group=ENTRY_POINTS)


def _from_entry_point(
    point: importlib.metadata.EntryPoint, base: type[Any]
) -> tuple[type[Any], Path | None]:
    try:
        cls = point.load()
    except Exception as error:
        raise _broken(Path(point.value), error) from error
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise PlumblineError(f"entry point {point.name} = {point.value} is not a {base.__name__}")
    return cls, source_file(cls)
