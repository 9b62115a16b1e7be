"""Where worlds are built."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from harness.conduct import worlds
from harness.conduct.worlds import world_folder, world_key
from harness.contracts.world import World
from harness.errors import PlumblineError


class Toy(World):
    """Writes its seed, and a line for every build into a file outside."""

    log: Path
    pause = 0.0

    def recipe(self):
        """Name the seed."""
        return {"seed": self.seed, "version": 1}

    def build(self, folder, report):
        """Write two files, slowly if asked to."""
        with self.log.open("a") as log:
            log.write("build\n")
        (folder / "first").write_text("1")
        report(0.5, "half way")
        time.sleep(self.pause)
        (folder / "second").write_text(str(self.seed))
        report(1.0, "done")

    def gold(self, chat, response):
        """Know nothing."""
        return {"gold": 0.0}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Give a toy world's class with a cache and a log of its own."""
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Toy, "log", tmp_path / "log", raising=False)
    return Toy


def builds(toy) -> int:
    """Count how often the world was built."""
    return len(toy.log.read_text().splitlines()) if toy.log.exists() else 0


def left_over(toy) -> list[str]:
    """List what stands in the cache beside finished worlds and locks."""
    root = Path(os.environ["PLUMBLINE_CACHE"]) / "worlds"
    return [p.name for p in root.iterdir() if p.name.startswith(".")]


def test_a_world_is_built_once(toy):
    """The second call finds the folder of the first."""
    folder = world_folder(toy(3))
    assert (folder / "second").read_text() == "3"
    assert world_folder(toy(3)) == folder
    assert builds(toy) == 1
    assert left_over(toy) == []


def test_another_recipe_is_another_folder(toy):
    """The folder's name is the world's name and ten digits of its recipe's hash."""
    assert world_folder(toy(0)) != world_folder(toy(1))
    name, digest = world_key(toy(0)).rsplit("-", 1)
    assert name == "toy"
    assert len(digest) == 10
    assert int(digest, 16) >= 0


def test_a_build_that_fails_leaves_nothing(toy, monkeypatch):
    """An error passes on, and the next call builds from the start."""

    def broken(self, folder, report):
        (folder / "first").write_text("1")
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "build", broken)
        with pytest.raises(RuntimeError, match="no"):
            world_folder(toy())
    assert left_over(toy) == []
    assert (world_folder(toy()) / "second").exists()


def test_two_processes_build_once(toy, monkeypatch):
    """Whoever comes second waits and gets the first one's world."""
    monkeypatch.setattr(Toy, "pause", 0.5)
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=world_folder, args=(toy(),)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(20)
    assert [p.exitcode for p in both] == [0, 0]
    assert builds(toy) == 1


def test_a_killed_build_leaves_nothing_that_looks_finished(toy, monkeypatch):
    """After kill -9 in mid-build the next call builds again, alone, and clears up."""
    monkeypatch.setattr(Toy, "pause", 30.0)
    process = multiprocessing.get_context("fork").Process(target=world_folder, args=(toy(),))
    process.start()
    while builds(toy) == 0 or not left_over(toy):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    assert not (worlds.cache_root() / "worlds" / world_key(toy())).exists()
    monkeypatch.setattr(Toy, "pause", 0.0)
    assert (world_folder(toy()) / "second").read_text() == "0"
    assert builds(toy) == 2
    assert left_over(toy) == []


def test_a_cache_that_cannot_be_written_is_one_line(toy, tmp_path, monkeypatch):
    """The message names the place and the variable that names another."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(PlumblineError, match="PLUMBLINE_CACHE names another place"):
        world_folder(toy())


def test_the_cache_is_the_platforms_own_unless_named(monkeypatch, tmp_path):
    """PLUMBLINE_CACHE comes first, then the platform's cache folder."""
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path))
    assert worlds.cache_root() == tmp_path
    monkeypatch.delenv("PLUMBLINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(worlds.sys, "platform", "linux")
    assert worlds.cache_root() == tmp_path / "xdg" / "plumbline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert worlds.cache_root() == Path("~/.cache/plumbline").expanduser()
