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

from harness.contracts.benchmark import Benchmark
from harness.errors import PlumblineError, unknown

if TYPE_CHECKING:
    from harness.contracts.judges import Judge
    from harness.contracts.method import Method
    from harness.contracts.scorer import Instruments, Scorer
    from harness.contracts.world import World

ENTRY_POINTS = "plumbline.methods"


@dataclass(frozen=True)
class Listed:
    """A plugin as ``make list`` shows it: found, not yet imported."""

    name: str
    file: Path

    @property
    def about(self) -> str:
        """The first line of its file; of a protocol, of its ``[about]`` text."""
        if self.file.suffix == ".toml":
            return _about_protocol(self.file)
        try:
            doc = ast.get_docstring(ast.parse(self.file.read_bytes())) or ""
        except (SyntaxError, ValueError) as error:
            return f"cannot be read: {error}"
        return doc.strip().split("\n")[0]


# ---------------------------------------------------------------- listing


def methods() -> list[Listed]:
    """List every method file."""
    return _in_folder(package_folder("methods"))


def benchmarks() -> list[Listed]:
    """List every benchmark file; worlds are not benchmarks."""
    return [
        one for one in _in_folder(package_folder("benchmarks")) if not _defines(one.file, "World")
    ]


def worlds() -> list[Listed]:
    """List every module or package of ``benchmarks`` with a ``World``."""
    return [one for one in _in_folder(package_folder("benchmarks")) if _defines(one.file, "World")]


def metrics() -> list[Listed]:
    """List every metric file."""
    return _in_folder(package_folder("benchmarks") / "metrics")


def judges() -> list[Listed]:
    """List every judge: a file that defines ``JUDGE``, its template mostly beside it."""
    folder = package_folder("benchmarks") / "judges"
    return [one for one in _in_folder(folder) if _defines(one.file, "JUDGE")]


def protocols() -> list[Listed]:
    """List every protocol file."""
    folder = package_folder("benchmarks") / "protocols"
    return [Listed(file.stem, file) for file in sorted(folder.glob("*.toml"))]


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


def own_methods() -> Iterator[tuple[str, type[Method]]]:
    """Import every method of the folder; for what only their classes know."""
    for one in methods():
        yield one.name, method_class(one.name)[1]


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
    from harness.contracts.scorer import judge_scorer

    known_metrics = {one.name: one.file for one in metrics()}
    known_judges = {one.name: one.file for one in judges()}
    if name in known_metrics:
        module = _import(f"benchmarks.metrics.{name}", known_metrics[name])
        made: Scorer = _attribute(module, "Metric", known_metrics[name])(instruments)
        return made
    if name in known_judges:
        return judge_scorer(instruments, name, judge(name))
    raise unknown("metric or judge", name, {*known_metrics, *known_judges})


def judge(name: str) -> Judge:
    """Load a judge by name."""
    file = judge_file(name)
    found: Judge = _attribute(_import(f"benchmarks.judges.{name}", file), "JUDGE", file)
    return found


def judge_file(name: str) -> Path:
    """Find a judge's Python file; raises for a judge that does not exist."""
    known = {one.name: one.file for one in judges()}
    if name not in known:
        raise unknown("judge", name, known)
    return known[name]


def source_file(cls: type[Any]) -> Path | None:
    """Find the file a plugin's class was written in."""
    try:
        found = inspect.getsourcefile(cls)
    except TypeError:
        return None
    return Path(found) if found else None


def package_folder(package: str) -> Path:
    """Find the folder of a package without importing what is in it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PlumblineError(
            f"the package {package!r} is not installed; run from the checkout: pip install -e ."
        )
    return Path(next(iter(spec.submodule_search_locations)))


# ---------------------------------------------------------------- inside


def _in_folder(folder: Path) -> list[Listed]:
    subfolders = {"metrics", "judges", "protocols"}  # packages, and no plugins of this folder
    names = {f.parent.name: f for f in folder.glob("*/__init__.py")}
    names = {name: f for name, f in names.items() if name not in subfolders}
    names |= {f.stem: f for f in folder.glob("*.py")}
    return [Listed(name, names[name]) for name in sorted(names) if not name.startswith("_")]


def _about_protocol(file: Path) -> str:
    import tomllib

    try:
        about = tomllib.loads(file.read_text("utf-8")).get("about", {}).get("text", "")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    return str(about).strip().split("\n")[0]


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
