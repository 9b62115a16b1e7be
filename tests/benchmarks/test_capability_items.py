"""The shipped capability tasks are what their generator makes, and have right answers."""

import json
from pathlib import Path

import pytest

from benchmarks.capability import writing
from benchmarks.testbed.language import Language

FOLDER = Path(writing.__file__).parent


@pytest.mark.parametrize("name", writing.ITEMS)
def test_shipped_items_are_those_the_generator_makes(name):
    """The files in the repository are reproduced exactly from the world's language."""
    shipped = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    assert shipped == writing.items(name)
    assert len(shipped) == writing.ITEMS[name]


def test_the_right_tool_suits_the_verb_and_the_others_do_not():
    """Each question has one right choice among four, on a task no model was trained on."""
    language = Language(0)
    unseen = {task.name: task for task in language.pool("test", "benign")}
    for item in writing.items("testbed_tools"):
        own = language.verbs[unseen[item["task"]].verb].tools
        suits = [choice in own for choice in item["choices"]]
        assert suits.count(True) == 1
        assert suits.index(True) == item["answer"]
        assert len(set(item["choices"])) == 4
