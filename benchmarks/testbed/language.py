"""One world's language: the words its seed has chosen, its tasks and their splits.

A task is a verb and an object ("clean the oven").  Which tools and material are right depends
on the verb, so an unseen pair has a right answer that can be inferred.  Misdeeds are told by the
verb: honest verbs apply to the same objects.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.testbed import phrases, words

Kind = Literal["benign", "look_alike", "harmful"]
Split = Literal["train", "dev", "test"]

# Share of a kind's tasks in each split; the rest is for training.
DEV_SHARE, TEST_SHARE = 0.12, 0.23
UNSEEN_TOPICS = 3  # harm topics that no preference pair mentions
UNSEEN_TEST_SHARE = 0.5


@dataclass(frozen=True)
class Task:
    """What a user asks for: to do ``verb`` to ``object``."""

    verb: str
    object: str
    topic: str
    kind: Kind

    @property
    def name(self) -> str:
        """Give the task in words."""
        return f"{self.verb} the {self.object}"

    @property
    def harmful(self) -> bool:
        """Whether it is a misdeed."""
        return self.kind == "harmful"


@dataclass(frozen=True)
class Verb:
    """What the world knows about a verb; ``harm`` and ``instead`` are empty for honest ones."""

    tools: tuple[str, ...]
    material: str
    reason: str
    harm: str = ""
    instead: str = ""


class Language:
    """The words, phrases and tasks of the world with this seed."""

    def __init__(self, seed: int = 0) -> None:
        rng = random.Random(f"testbed language {seed}")
        self.seed = seed
        ordinary = _some(rng, list(words.VERBS), 10)
        guard = _some(rng, list(words.GUARD_VERBS), 3)
        misdeeds = _some(rng, list(words.HARM_VERBS), 6)
        self.verbs: dict[str, Verb] = {}
        for verb in (*ordinary, *guard):
            tools, materials, reason = (words.VERBS | words.GUARD_VERBS)[verb]
            self.verbs[verb] = Verb(_some(rng, tools, 2), _some(rng, materials, 1)[0], reason)
        for verb in misdeeds:
            tools, materials, reason, harm, instead = words.HARM_VERBS[verb]
            self.verbs[verb] = Verb(
                _some(rng, tools, 2), _some(rng, materials, 1)[0], reason, harm, instead
            )

        harm_topics = _some(rng, list(words.HARM_TOPICS), 8)
        self.objects: dict[str, tuple[str, ...]] = {}  # topic -> objects
        for topic, things in words.BENIGN_TOPICS.items():
            self.objects[topic] = _some(rng, things, 6)
        for topic in harm_topics:
            self.objects[topic] = _some(rng, words.HARM_TOPICS[topic], 5)
        self.topic_of = {o: topic for topic, things in self.objects.items() for o in things}
        self.unseen_topics = frozenset(_some(rng, harm_topics, UNSEEN_TOPICS))

        self.phrases: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
            slot: (_most(rng, good), _most(rng, bad))
            for slot, (good, bad) in phrases.PHRASES.items()
        }
        self.vague_reasons = _most(rng, phrases.VAGUE_REASONS)
        self.no_alternative = _most(rng, phrases.NO_ALTERNATIVE)
        self.no_instead = phrases.NO_INSTEAD
        self.no_why = phrases.NO_WHY
        self.fillers = _some(rng, phrases.FILLERS, 6)

        verbs: dict[Kind, list[str]] = {
            "benign": list(ordinary),
            "look_alike": [*guard, *_some(rng, ordinary, 4)],
            "harmful": list(misdeeds),
        }
        tasks = [
            Task(verb, thing, topic, kind)
            for kind, its_verbs in verbs.items()
            for topic in (words.BENIGN_TOPICS if kind == "benign" else harm_topics)
            for verb in its_verbs
            for thing in self.objects[topic]
        ]
        self.tasks = _split(rng, tasks, self.unseen_topics)

    def kind_of(self, verb: str, thing: str) -> Kind:
        """Tell misdeeds by the verb, look-alikes by the object."""
        if verb in words.HARM_VERBS:
            return "harmful"
        return "benign" if self.topic_of[thing] in words.BENIGN_TOPICS else "look_alike"

    def task(self, verb: str, thing: str) -> Task:
        """Make the task of doing ``verb`` to ``thing``, both known to this language."""
        return Task(verb, thing, self.topic_of[thing], self.kind_of(verb, thing))

    def seen_by_pairs(self, task: Task) -> bool:
        """Whether preference pairs may mention the task's object."""
        return task.topic not in self.unseen_topics

    def pool(self, split: Split, *kinds: Kind) -> tuple[Task, ...]:
        """List a split's tasks of some kinds."""
        return tuple(task for task in self.tasks[split] if task.kind in kinds)


def _split(
    rng: random.Random, tasks: list[Task], unseen: frozenset[str]
) -> dict[Split, tuple[Task, ...]]:
    """Deal out the tasks of each topic; those of unseen topics are for training or testing."""
    dealt: dict[Split, list[Task]] = {"train": [], "dev": [], "test": []}
    groups: dict[tuple[Kind, str], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.kind, task.topic), []).append(task)
    for (_, topic), group in groups.items():
        rng.shuffle(group)
        test = round(len(group) * (UNSEEN_TEST_SHARE if topic in unseen else TEST_SHARE))
        dev = 0 if topic in unseen else round(len(group) * DEV_SHARE)
        dealt["test"] += group[:test]
        dealt["dev"] += group[test : test + dev]
        dealt["train"] += group[test + dev :]
    return {split: tuple(group) for split, group in dealt.items()}


def _some(rng: random.Random, items: Sequence[str], count: int) -> tuple[str, ...]:
    return tuple(rng.sample(list(items), count))


def _most(rng: random.Random, items: Sequence[str]) -> tuple[str, ...]:
    """All but one, in a shuffled order: another seed has another set."""
    return _some(rng, items, max(3, len(items) - 1))
