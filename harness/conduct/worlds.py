"""Where a world is built: once a machine, in a cache folder named by its recipe."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.contracts.world import World
from harness.errors import PlumblineError
from harness.progress import console, progress

CACHE_VARIABLE = "PLUMBLINE_CACHE"


def cache_root() -> Path:
    """Give the cache folder: $PLUMBLINE_CACHE, or ``plumbline`` in the platform's own."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "plumbline"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "plumbline"


def world_key(world: World) -> str:
    """Name a world by what it is and by a hash of everything its build depends on."""
    recipe = json.dumps(world.recipe(), sort_keys=True, ensure_ascii=False)
    return f"{type(world).__name__.lower()}-{hashlib.blake2b(recipe.encode()).hexdigest()[:10]}"


def world_folder(world: World) -> Path:
    """Give the folder of the built world, building it if nobody has.

    The build goes into a sibling folder that is renamed when it is whole, under a lock that
    the system drops with the process: two processes build once, a killed build leaves nothing
    that looks finished.  Raises PlumblineError where the cache cannot be written.
    """
    key, root = world_key(world), cache_root() / "worlds"
    folder = root / key
    if folder.is_dir():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{key}.lock", key):
            if not folder.is_dir():
                _build(world, folder)
    except OSError as error:
        raise PlumblineError(
            f"the world {key} cannot be built under {root}: {error.strerror or error}; "
            f"{CACHE_VARIABLE} names another place"
        ) from error
    return folder


def _build(world: World, folder: Path) -> None:
    prefix = f".{folder.name}.building-"
    for dead in folder.parent.glob(f"{prefix}*"):  # we hold the lock, so nobody is at work there
        shutil.rmtree(dead, ignore_errors=True)
    scratch = folder.parent / f"{prefix}{os.getpid()}"
    scratch.mkdir()
    console.print(f"building the world {folder.name} (once a machine, into {folder.parent})")
    done = 0.0
    try:
        with progress(f"building {folder.name}", 100) as advance:

            def report(fraction: float, what: str) -> None:
                nonlocal done
                advance(100 * (fraction - done), what)
                done = fraction

            world.build(scratch, report)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # there only if the build failed


@contextmanager
def _locked(path: Path, key: str) -> Iterator[None]:
    """Hold a lock file; say so where somebody else holds it."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"another process builds the world {key}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
