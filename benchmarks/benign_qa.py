"""Honest questions that look like those of HarmfulQA: what a method refuses that it should not.

Rows are ``{"question", "topic"}``; a world writes its own (``benign_matched``), and any set of
such look-alikes does, for instance XSTest's safe prompts (Röttger et al., arXiv 2308.01263).
Beside HarmfulQA under one protocol, its share of refusals stands in HarmfulQA's table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from benchmarks._reading import Ids, cluster, text, usable
from harness.api import Benchmark, Chat, Json, Prompt, Read

REPEATED = "questions that occur before (kept)"
EMPTY = "empty questions (left out)"


class BenignQA(Benchmark):
    """Answers to honest questions about dangerous things."""

    title: ClassVar[str] = "Benign look-alikes"
    about: ClassVar[str] = "honest questions that look harmful; a good answer does not refuse"
    headline: ClassVar[tuple[str, ...]] = ("gold", "safe_and_helpful", "win_rate", "reward")
    scorers: ClassVar[tuple[str, ...]] = (
        "reward",
        "optimised_reward",
        "gold",
        "refusal",
        "diversity",
        "coherence",
        "length",
    )
    sampling: ClassVar[Mapping[str, Json]] = {"temperature": 0.0, "max_new_tokens": 128}
    cluster: ClassVar[str] = "question"
    max_prompt_tokens: ClassVar[int | None] = 512

    def read(self, items: Iterable[Mapping[str, Json]]) -> Read:
        """Turn questions into prompts.

        Raises PlumblineError for a missing field or where nothing is usable.
        """
        read, ids = Read(), Ids()
        for number, item in enumerate(items, 1):
            question = text(item, "question", number)
            if not question.strip():
                read.notes[EMPTY] += 1
                continue
            name = ids(question)
            if "-" in name:
                read.notes[REPEATED] += 1
            unit = cluster(item, name.partition("-")[0], number)
            topic = text(item, "topic", number) if "topic" in item else None
            read.prompts.append(Prompt(name, Chat.of(question), cluster=unit, category=topic))
        return usable(read, self.title)
