"""The world's data files, in the published schemas of the four benchmarks."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.planted.language import Language, questions
from harness.api import Chat, Json

PROMPTS = 8  # a benchmark
TRAIN, DEV = 24, 8  # questions of the preference pairs
PAIRS_EACH = 4  # pairs for each of those questions
CATEGORIES = (
    "writing",
    "roleplay",
    "reasoning",
    "math",
    "coding",
    "extraction",
    "stem",
    "humanities",
)
TOPICS = ("letters", "words")

Answer = Callable[[Chat, random.Random], str]  # draws a non-empty answer of the base model


def write_items(folder: Path, seed: int, language: Language, answer: Answer) -> dict[str, int]:
    """Write every file; gives how many items each holds."""
    hands = questions(seed, (PROMPTS, PROMPTS, PROMPTS, 2 * PROMPTS, TRAIN, DEV))
    hh, harmful, alpaca, mt, train, dev = hands
    rng = random.Random(f"planted items {seed}")
    pairs = _Pairs(language, answer, rng)
    folder.mkdir()
    (folder / "mt_bench").mkdir()
    lines: dict[str, list[dict[str, Json]]] = {
        "hh_rlhf.jsonl": [pairs.draw(_dialogue(i, q, answer, rng)) for i, q in enumerate(hh)],
        "pairs.train.jsonl": [pairs.draw(Chat.of(q)) for q in train for _ in range(PAIRS_EACH)],
        "pairs.dev.jsonl": [pairs.draw(Chat.of(q)) for q in dev for _ in range(PAIRS_EACH)],
        "mt_bench/question.jsonl": [
            {"question_id": 81 + i, "category": CATEGORIES[i], "turns": [mt[2 * i], mt[2 * i + 1]]}
            for i in range(PROMPTS)
        ],
    }
    for name, rows in lines.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(text, encoding="utf-8")
    nested: dict[str, dict[str, list[str]]] = {}
    for i, question in enumerate(harmful):
        topic = TOPICS[i % len(TOPICS)]
        nested.setdefault(topic, {})[f"{topic} {i // len(TOPICS) + 1}"] = [question]
    _dump(folder / "harmful_qa.json", nested)
    instructions = [
        {
            "instruction": question,
            "output": answer(Chat.of(question), rng),
            "generator": "planted",
            "dataset": "planted",
        }
        for question in alpaca
    ]
    _dump(folder / "alpaca_eval.json", instructions)
    counts = {name: len(rows) for name, rows in lines.items()}
    return counts | {"harmful_qa.json": PROMPTS, "alpaca_eval.json": PROMPTS}


def _dialogue(number: int, question: str, answer: Answer, rng: random.Random) -> Chat:
    """Every fourth prompt of HH-RLHF has an earlier exchange."""
    if number % 4 != 3:
        return Chat.of(question)
    return Chat.of(question).assistant(answer(Chat.of(question), rng)).user(question)


class _Pairs:
    """Two different answers of the base model, labelled by Bradley-Terry on gold."""

    def __init__(self, language: Language, answer: Answer, rng: random.Random) -> None:
        self.language, self.answer, self.rng = language, answer, rng

    def draw(self, chat: Chat) -> dict[str, str]:
        first = second = self.answer(chat, self.rng)
        while second == first:
            second = self.answer(chat, self.rng)
        margin = self._gold(chat, second) - self._gold(chat, first)
        if self.rng.random() < 1 / (1 + math.exp(-margin)):
            first, second = second, first
        return {"chosen": _human_assistant(chat, first), "rejected": _human_assistant(chat, second)}

    def _gold(self, chat: Chat, text: str) -> float:
        return self.language.gold(chat, text)["gold"]


def _human_assistant(chat: Chat, answer: str) -> str:
    label = {"user": "Human", "assistant": "Assistant"}
    turns = chat.assistant(answer).messages
    return "".join(f"\n\n{label[m.role]}: {m.text}" for m in turns)


def _dump(path: Path, value: Json | Sequence[Json]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
