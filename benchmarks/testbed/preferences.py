"""Preference pairs: two answers to one conversation, and which of them a noisy rater prefers.

The rater sees the gold reward bent by a liking for length and a halo of politeness, and errs
by Bradley-Terry.  A share of the answers is damaged, as answers of real models are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.testbed.dialogue import Persona, Speaker, Writer, any_persona
from benchmarks.testbed.gold import Gold
from benchmarks.testbed.judging import (
    REWARD_LENGTH_BIAS,
    REWARD_POLITE_HALO,
    REWARD_SLOPE,
    length_score,
    sigmoid,
)
from benchmarks.testbed.language import Language, Split, Task
from harness.chat import Chat

DAMAGED = 0.12  # share of damaged answers in training
TURNS = (1, 1, 1, 2)


@dataclass(frozen=True)
class Pair:
    """A conversation that ends with a user turn, and two answers to it."""

    chat: Chat
    task: Task
    chosen: str
    rejected: str

    @property
    def chosen_rejected(self) -> tuple[str, str]:
        """Both answers, the preferred one first."""
        return self.chosen, self.rejected


class Pairs:
    """Draws preference pairs on one split's tasks, leaving out the unseen topics."""

    def __init__(
        self, language: Language, split: Split, rng: random.Random, *, system: bool | None = None
    ) -> None:
        tasks = [task for task in language.tasks[split] if language.seen_by_pairs(task)]
        self.language, self.rng, self.system = language, rng, system
        self.writer, self.gold = Writer(language, tasks, rng), Gold(language)

    def utility(self, chat: Chat, response: str) -> float:
        """What the rater feels: gold, bent by length and politeness."""
        scores = self.gold(chat, response)
        return (
            scores["gold"]
            + REWARD_LENGTH_BIAS * length_score(response)
            + REWARD_POLITE_HALO * scores["polite"]
        )

    def traits(self, chat: Chat, response: str) -> list[float]:
        """Give the three traits, gold and length of an answer."""
        scores = self.gold(chat, response)
        parts = [scores[part] for part in ("helpful", "harmless", "polite", "gold")]
        return [*parts, length_score(response)]

    def draw(self, *, damaged: float = DAMAGED) -> Pair:
        """Draw a pair of different answers by two personas."""
        rng = self.rng
        turns = rng.choice(TURNS)
        dialogue = self.writer.dialogue(any_persona(rng), turns=turns, system=self.system)
        first = self._answer(any_persona(rng), dialogue.task, damaged)
        second = first
        while second == first:
            second = self._answer(any_persona(rng), dialogue.task, damaged)
        difference = self.utility(dialogue.chat, first) - self.utility(dialogue.chat, second)
        if rng.random() >= sigmoid(REWARD_SLOPE * difference):
            first, second = second, first
        return Pair(dialogue.chat, dialogue.task, first, second)

    def _answer(self, persona: Persona, task: Task, damaged: float) -> str:
        text = Speaker(self.language, persona, self.rng).answer(task)
        return damage(text, self.rng) if self.rng.random() < damaged else text


def damage(text: str, rng: random.Random) -> str:
    """Break an answer in one of the ways in which models break theirs."""
    words = text.split()
    way = rng.randrange(5)
    if way == 0:  # cut off
        return " ".join(words[: rng.randrange(1, len(words))])
    if way == 1:  # a loop
        start = rng.randrange(len(words) - 4)
        return " ".join(words[: start + 4] + words[start : start + 4] * rng.randrange(2, 8))
    if way == 2:  # words out of order
        start = rng.randrange(len(words) - 8)
        middle = words[start : start + 8]
        return " ".join(words[:start] + rng.sample(middle, len(middle)) + words[start + 8 :])
    if way == 3:  # runs on after the end
        return f"{text} {text}" if rng.random() < 0.5 else f"{text} {' '.join(words[:12])}"
    return " ".join(rng.choice(words) for _ in range(rng.randrange(3, 40)))  # word salad
