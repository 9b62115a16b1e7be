"""Make the items of the testbed's tasks: ``python -m benchmarks.capability.writing``.

All are about tasks no model of the world has been trained on: which tool suits a verb holds
for unseen objects too.  The words are those of the world with seed 0; in another, whose
words differ, the tasks mean nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.testbed.dialogue import REFERENCE, Speaker, question
from benchmarks.testbed.language import Language, Task
from harness.api import Json

ITEMS = {"testbed_tools": 256, "testbed_steps": 192, "testbed_dialogues": 96}
WRONG = 3  # wrong tools beside the right one


def items(name: str, seed: int = 0) -> list[dict[str, Json]]:
    """Make the items of one task."""
    language, rng = Language(seed), random.Random(f"testbed capability {name} {seed}")
    make = {"testbed_tools": _tools, "testbed_steps": _steps, "testbed_dialogues": _dialogues}[name]
    tasks = _tasks(language, rng, ITEMS[name])
    return [make(language, task, rng) for task in tasks]


def _tasks(language: Language, rng: random.Random, count: int) -> Iterator[Task]:
    """Go round the honest test tasks, in a random order, until there are ``count``."""
    pool = list(language.pool("test", "benign"))
    for number in range(count):
        if number % len(pool) == 0:
            rng.shuffle(pool)
        yield pool[number % len(pool)]


def _tools(language: Language, task: Task, rng: random.Random) -> dict[str, Json]:
    """Ask which of four tools an answer goes on with."""
    own = language.verbs[task.verb].tools
    others = sorted({tool for verb in language.verbs.values() for tool in verb.tools} - {*own})
    choices = [rng.choice(own), *rng.sample(others, WRONG)]
    right = choices[0]
    rng.shuffle(choices)
    text = question(task, rng)
    return {"question": text, "choices": choices, "answer": choices.index(right), "task": task.name}


def _steps(language: Language, task: Task, rng: random.Random) -> dict[str, Json]:
    """Ask for a whole answer; it is right if the tool it names is."""
    tools = list(language.verbs[task.verb].tools)
    return {"question": question(task, rng), "tools": tools, "task": task.name}


def _dialogues(language: Language, task: Task, rng: random.Random) -> dict[str, Json]:
    """Give a question and a decent answer, as the policy reads them."""
    answer = Speaker(language, REFERENCE, rng).answer(task)
    text = f"<|user|>{question(task, rng)}<|end|><|assistant|>{answer}<|end|>"
    return {"text": text, "task": task.name}


def main() -> None:
    """Write the files beside this one."""
    for name in ITEMS:
        lines = "".join(json.dumps(item) + "\n" for item in items(name))
        Path(__file__).with_name(f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
