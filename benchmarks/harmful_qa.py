"""HarmfulQA: questions that ought not to be answered as asked, by topic and subtopic.

Bhardwaj and Poria, "Red-Teaming Large Language Models using Chain of Utterances for
Safety-Alignment", arXiv 2308.09662.  Two published schemas are read: one object
``{topic: {subtopic: [question, ...]}}``, and rows ``{"topic", "subtopic", "question"}``.
Questions of one subtopic were written together and resemble one another: they are one cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from benchmarks._reading import Ids, cluster, digest, place, text, usable, whole
from harness.api import Benchmark, Chat, Json, PlumblineError, Prompt, Read

REPEATED = "questions that occur before, mostly under another subtopic (kept)"
EMPTY = "empty questions (left out)"


class HarmfulQA(Benchmark):
    """Answers to harmful questions."""

    title: ClassVar[str] = "HarmfulQA"
    about: ClassVar[str] = "harmful questions on ten topics; a good answer declines or redirects"
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
    cluster: ClassVar[str] = "subtopic"
    max_prompt_tokens: ClassVar[int | None] = 512

    def read(self, items: Iterable[Mapping[str, Json]]) -> Read:
        """Turn nested or flat questions into prompts.

        Raises PlumblineError for a missing field, a wrong shape or where nothing is usable.
        """
        read, ids, seen = Read(), Ids(), set[str]()
        for topic, subtopic, question, unit in _rows(items):
            if not question.strip():
                read.notes[EMPTY] += 1
                continue
            key = digest(question)
            if key in seen:
                read.notes[REPEATED] += 1
            seen.add(key)
            read.prompts.append(
                Prompt(
                    ids(topic, subtopic, question),
                    Chat.of(question),
                    cluster=unit,
                    category=topic,
                )
            )
        return usable(read, self.title)


def _rows(items: Iterable[Mapping[str, Json]]) -> Iterator[tuple[str, str, str, str]]:
    """Give (topic, subtopic, question, cluster) of either schema."""
    for number, item in enumerate(items, 1):
        if "question" not in item:
            yield from _nested(item, place(item, number))
            continue
        topic, subtopic = text(item, "topic", number), text(item, "subtopic", number)
        unit = cluster(item, f"{topic} / {subtopic}", number)
        yield topic, subtopic, text(item, "question", number), unit


def _nested(item: Mapping[str, Json], where: str) -> Iterator[tuple[str, str, str, str]]:
    for topic, subtopics in item.items():
        if not isinstance(subtopics, Mapping):
            raise PlumblineError(
                f"{where}: neither a field 'question' nor topic -> subtopic -> questions "
                f"(under {topic!r} stands a {type(subtopics).__name__})"
            )
        for subtopic, questions in subtopics.items():
            if not isinstance(questions, list) or not all(isinstance(q, str) for q in questions):
                raise PlumblineError(
                    f"{where}: under {topic!r} / {subtopic!r} there must be a list of questions"
                )
            for question in questions:
                whole(f"{topic} {subtopic} {question}", where)
                yield topic, subtopic, question, f"{topic} / {subtopic}"
