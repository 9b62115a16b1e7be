"""The world names its build by all that it depends on, and fails in one line."""

import pytest

from benchmarks.testbed import World, world
from benchmarks.testbed.dialogue import TRAITS
from harness.errors import PlumblineError


def test_the_recipe_names_seed_and_sources():
    """The same seed gives the same recipe, another seed another one."""
    assert World(0).recipe() == World(0).recipe()
    assert World(0).recipe() != World(1).recipe()


def test_the_recipe_follows_the_sources(tmp_path, monkeypatch):
    """A changed source file is another recipe."""
    source = tmp_path / "source.py"
    source.write_text("one")
    monkeypatch.setattr(world, "_SOURCES", [source])
    before = World(0).recipe()
    source.write_text("two")
    assert World(0).recipe() != before


def test_system_sentences_name_both_sides_of_each_trait():
    """Controls can ask for every trait and for its opposite."""
    sentences = World(0).system_sentences()
    assert set(sentences) == set(TRAITS)
    for good, bad in sentences.values():
        assert len(good) == len(bad) >= 5
        assert not set(good) & set(bad)


def test_a_failed_training_process_is_told_in_one_line(tmp_path, monkeypatch):
    """The role and the reason are named, and the other process does not live on."""
    monkeypatch.setattr(world, "LINES", ({"nonsense": 0.5}, {"reward": 0.5}))
    monkeypatch.setattr(world, "write_items", lambda *_: None)
    started = []
    popen = world.subprocess.Popen

    def watched(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(world.subprocess, "Popen", watched)
    with pytest.raises(PlumblineError, match="nonsense failed with exit status 1") as caught:
        World(0).build(tmp_path, lambda *_: None)
    assert "\n" not in str(caught.value)
    assert [process.wait(timeout=30) != 0 for process in started] == [True] * len(started)
