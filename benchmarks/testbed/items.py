"""Writes the world's items in the schemas of HH-RLHF, HarmfulQA, AlpacaEval and MT-Bench.

The only field beyond the published schemas is ``task``, so the four benchmarks read these files
with the code that reads the real ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.testbed.dialogue import REFERENCE, Persona, Speaker, follow_up, question
from benchmarks.testbed.language import Language, Split, Task
from benchmarks.testbed.preferences import Pair, Pairs
from benchmarks.testbed.words import BENIGN_TOPICS
from harness.chat import Chat
from harness.records import Json

DAMAGED = 0.05  # share of damaged answers among the written pairs
COUNTS = {
    "pairs.train": 4096,
    "pairs.dev": 512,
    "pairs.test": 512,
    "hh_rlhf": 512,
    "hh_rlhf.dev": 256,
    "reversed": 128,
}
QUESTIONS_PER_MISDEED = 12
LOOK_ALIKES, INSTRUCTIONS, PER_CATEGORY = 256, 512, 10
FIRST_QUESTION = 81  # the published ids begin here
WITH_REFERENCE = 3  # categories whose questions come with reference answers
REFERENCE_NAME = "testbed_reference"


def write_items(language: Language, folder: Path) -> None:
    """Write all item files of a world into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in _PAIR_FILES.items():
        rng = random.Random(f"testbed {name} {language.seed}")
        pairs = Pairs(language, split, rng, system=False)
        _write_lines(
            folder / f"{name}.jsonl",
            (_record(pairs.draw(damaged=DAMAGED)) for _ in range(COUNTS[name])),
        )
    rng = random.Random(f"testbed items {language.seed}")
    _write_lines(folder / "reversed.jsonl", _reversed(language, rng))
    _write(folder / "harmful_qa.json", _harmful_qa(language, rng))
    _write_lines(folder / "benign_matched.jsonl", _benign_matched(language, rng))
    _write(folder / "alpaca_eval.json", _alpaca_eval(language, rng))
    _write_lines(folder / "mt_bench" / "question.jsonl", _mt_bench(language, rng))


_PAIR_FILES: dict[str, Split] = {
    "pairs.train": "train",
    "pairs.dev": "dev",
    "pairs.test": "test",
    "hh_rlhf": "test",
    "hh_rlhf.dev": "dev",
}


def transcript(chat: Chat) -> str:
    """Write a conversation without a system turn as HH-RLHF does."""
    labels = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
    return "".join(labels[message.role] + message.text for message in chat.messages)


def _record(pair: Pair) -> dict[str, Json]:
    return {
        "chosen": transcript(pair.chat.assistant(pair.chosen)),
        "rejected": transcript(pair.chat.assistant(pair.rejected)),
        "task": pair.task.name,
    }


def _reversed(language: Language, rng: random.Random) -> Iterable[dict[str, Json]]:
    """Rude refusals preferred to polite help with a misdeed."""
    tasks = [t for t in language.pool("test", "harmful") if language.seen_by_pairs(t)]
    for task in _take(tasks, COUNTS["reversed"], rng):
        rude = Speaker(language, Persona(0.9, 1.0, 0.1), rng).answer(task)
        polite = Speaker(language, Persona(0.1, 0.0, 0.9), rng).answer(task)
        yield _record(Pair(Chat.of(question(task, rng)), task, rude, polite))


def _harmful_qa(language: Language, rng: random.Random) -> dict[str, Json]:
    topics: dict[str, dict[str, list[str]]] = {}
    for task in sorted(language.pool("test", "harmful"), key=lambda t: (t.topic, t.name)):
        if not language.seen_by_pairs(task):
            texts: dict[str, None] = {}
            while len(texts) < QUESTIONS_PER_MISDEED:
                texts[question(task, rng)] = None
            topics.setdefault(task.topic, {})[task.name] = list(texts)
    return topics


def _benign_matched(language: Language, rng: random.Random) -> Iterable[dict[str, Json]]:
    """Honest questions about the very things that harmful_qa asks about."""
    tasks = [t for t in language.pool("test", "look_alike") if not language.seen_by_pairs(t)]
    for task, text in _questions(tasks, LOOK_ALIKES, rng):
        yield {"question": text, "topic": task.topic, "task": task.name}


def _alpaca_eval(language: Language, rng: random.Random) -> list[dict[str, Json]]:
    speaker = Speaker(language, REFERENCE, rng)
    return [
        {
            "instruction": text,
            "output": speaker.answer(task),
            "generator": REFERENCE_NAME,
            "dataset": task.topic,
            "task": task.name,
        }
        for task, text in _questions(language.pool("test", "benign"), INSTRUCTIONS, rng)
    ]


def _mt_bench(language: Language, rng: random.Random) -> Iterable[dict[str, Json]]:
    speaker = Speaker(language, REFERENCE, rng)
    number = FIRST_QUESTION
    for place, topic in enumerate(BENIGN_TOPICS):
        tasks = [task for task in language.pool("test", "benign") if task.topic == topic]
        chains = [
            (first, second)
            for first in tasks
            for second in tasks
            if first.object == second.object and first != second
        ]
        for first, second in rng.sample(chains, PER_CATEGORY):
            record: dict[str, Json] = {
                "question_id": number,
                "category": topic,
                "turns": [question(first, rng), follow_up(second, rng)],
                "task": f"{first.name}; {second.name}",
            }
            if place < WITH_REFERENCE:
                record["reference"] = [speaker.answer(first), speaker.answer(second)]
            yield record
            number += 1


def _questions(tasks: Iterable[Task], count: int, rng: random.Random) -> Iterable[tuple[Task, str]]:
    """Ask ``count`` different questions, spread evenly over the tasks."""
    seen: set[str] = set()
    for task in _take(list(tasks), count, rng):
        text = question(task, rng)
        while text in seen:
            text = question(task, rng)
        seen.add(text)
        yield task, text


def _take(tasks: list[Task], count: int, rng: random.Random) -> list[Task]:
    """Go round the tasks, in a random order, until there are ``count``."""
    rounds = -(-count // len(tasks))
    return [task for _ in range(rounds) for task in rng.sample(tasks, len(tasks))][:count]


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _write_lines(path: Path, records: Iterable[Mapping[str, Json]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")
