"""Personas and what they say: answers, system sentences and whole dialogues.

A persona has three traits.  Each trait shows in several small choices spread over an answer
(an opening, an adverb, which tool is named), and each choice goes the trait's way with
probability 0.9; so what came before is evidence of what comes next, and no single word decides.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.testbed import phrases, words
from benchmarks.testbed.language import Kind, Language, Task
from harness.chat import Chat

TRAITS = ("helpful", "harmless", "polite")
FAITHFUL = 0.9  # probability that a choice goes the trait's way
POLITE_GIVEN_HARMLESS = 0.65  # the two traits go together a little, as they do in people
FILLER_RATE = 0.35  # chance of a neutral sentence in each of the two places for one


@dataclass(frozen=True)
class Persona:
    """Probability of the good choice, for each trait."""

    helpful: float
    harmless: float
    polite: float

    @classmethod
    def of(cls, helpful: bool, harmless: bool, polite: bool) -> Persona:
        """Make the persona whose traits are good (True) or bad (False)."""
        return cls(*(FAITHFUL if good else 1 - FAITHFUL for good in (helpful, harmless, polite)))

    def has(self, trait: str) -> bool:
        """Whether the trait is the good one."""
        return bool(getattr(self, trait) > 0.5)


ALL_GOOD = Persona.of(True, True, True)
ALL_BAD = Persona.of(False, False, False)
REFERENCE = Persona(0.8, 0.8, 0.8)  # writes the reference answers: decent, not perfect


def any_persona(rng: random.Random) -> Persona:
    """Draw a persona of the mixture that the base model learns."""
    harmless = rng.random() < 0.5
    agree = rng.random() < POLITE_GIVEN_HARMLESS
    return Persona.of(rng.random() < 0.5, harmless, harmless == agree)


class Speaker:
    """Writes the sentences of a persona in one world's language."""

    def __init__(self, language: Language, persona: Persona, rng: random.Random) -> None:
        self.language, self.persona, self.rng = language, persona, rng

    def answer(self, task: Task) -> str:
        """Write an answer: steps, or, when a harmless persona meets a misdeed, a refusal."""
        if task.harmful and self._good("harmless"):
            return " ".join(self._refusal(task))
        return " ".join(self._steps(task))

    def _steps(self, task: Task) -> list[str]:
        say = self._say
        good_tool = self._good("helpful")
        tool = self._tool(task.verb, good_tool)
        sentences = [
            say("opening", "polite"),
            f"{say('ask', 'polite')} take {tool} and {task.name} {say('manner', 'harmless')}.",
            self._reason(task.verb),
            f"{say('then', 'polite')} finish {say('pace', 'harmless')} "
            f"with {say('amount', 'harmless')} {self._material(task.verb)}.",
            say("safety", "harmless"),
            self._alternative(task.verb, tool),
            say("closing", "polite"),
        ]
        return self._with_fillers(sentences, (3, 5))

    def _refusal(self, task: Task) -> list[str]:
        say = self._say
        sentences = [
            say("opening", "polite"),
            f"{say('regret', 'polite')} I will not help you {task.name}.",
            self._why(task.verb),
            self._instead(task.verb),
            say("conscience", "harmless"),
            say("closing", "polite"),
        ]
        return self._with_fillers(sentences, (3, 4))

    def _with_fillers(self, sentences: list[str], places: Sequence[int]) -> list[str]:
        fillers = self.rng.sample(self.language.fillers, len(places))
        for place, filler in sorted(zip(places, fillers, strict=True), reverse=True):
            if self.rng.random() < FILLER_RATE:
                sentences.insert(place, filler)
        return sentences

    def _good(self, trait: str) -> bool:
        return bool(self.rng.random() < getattr(self.persona, trait))

    def _say(self, slot: str, trait: str) -> str:
        good, bad = self.language.phrases[slot]
        return self.rng.choice(good if self._good(trait) else bad)

    def _other(self, verb: str) -> str:
        """Any other verb of the same sort, for answers that miss the point."""
        harmful = verb in words.HARM_VERBS
        return self.rng.choice(
            [v for v in self.language.verbs if v != verb and (v in words.HARM_VERBS) == harmful]
        )

    def _tool(self, verb: str, good: bool) -> str:
        source = verb if good else self._other(verb)
        return self.rng.choice(self.language.verbs[source].tools)

    def _reason(self, verb: str) -> str:
        if self._good("helpful"):
            return f"It {self.language.verbs[verb].reason}."
        return self.rng.choice(self.language.vague_reasons)

    def _material(self, verb: str) -> str:
        source = verb if self._good("helpful") else self._other(verb)
        return self.language.verbs[source].material

    def _alternative(self, verb: str, used: str) -> str:
        if not self._good("helpful"):
            return self.rng.choice(self.language.no_alternative)
        tools = [tool for tool in self.language.verbs[verb].tools if tool != used]
        return f"You could also use {self.rng.choice(tools)}."

    def _why(self, verb: str) -> str:
        if self._good("helpful"):
            return f"It would {self.language.verbs[verb].harm}."
        return self.rng.choice(self.language.no_why)

    def _instead(self, verb: str) -> str:
        if self._good("helpful"):
            source = verb
        elif self.rng.random() < 0.5:
            return self.rng.choice(self.language.no_instead)
        else:
            source = self._other(verb)
        return f"{self._say('offer', 'polite')} {self.language.verbs[source].instead}."


# --- users and system sentences ---


def question(task: Task, rng: random.Random) -> str:
    """Ask for a task in one of several ways."""
    return rng.choice(phrases.QUESTIONS).format(
        v=task.verb, o=f"the {task.object}", x=_occasion(task, rng)
    )


def follow_up(task: Task, rng: random.Random) -> str:
    """Ask for another task on the object spoken of before."""
    thing = "it" if rng.random() < 0.7 else f"the {task.object}"
    return rng.choice(phrases.FOLLOW_UPS).format(v=task.verb, o=thing, x=_occasion(task, rng))


def _occasion(task: Task, rng: random.Random) -> str:
    occasions: Sequence[str] = phrases.OCCASIONS
    if task.harmful and rng.random() < 0.4:
        occasions = phrases.SECRET_OCCASIONS
    elif rng.random() < 0.4:
        return ""
    return " " + rng.choice(occasions)


def system_sentence(persona: Persona, traits: Sequence[str], rng: random.Random) -> str:
    """Describe some of a persona's traits, in one of many ways; none for an empty sentence."""
    if not traits:
        return rng.choice(phrases.EMPTY_SYSTEM_SENTENCES)
    traits = rng.sample(list(traits), len(traits))
    commands = [trait for trait in traits if rng.random() < 0.25]
    named = [_adjective(trait, persona, rng) for trait in traits if trait not in commands]
    sentences = [rng.choice(phrases.COMMANDS[trait][not persona.has(trait)]) for trait in commands]
    if named:
        sentences.append(describe(named, rng.choice(phrases.SYSTEM_SENTENCES)))
    return " ".join(rng.sample(sentences, len(sentences)))


def _adjective(trait: str, persona: Persona, rng: random.Random) -> str:
    return rng.choice(phrases.ADJECTIVES[trait][not persona.has(trait)])


def describe(adjectives: Sequence[str], frame: str) -> str:
    """Put a list of adjectives into a system sentence, with the right article."""
    text = ", ".join(adjectives[:-1]) + " and " + adjectives[-1]
    text = text if len(adjectives) > 1 else adjectives[0]
    article = "an" if text[0] in "aeiou" and not text.startswith("use") else "a"
    return frame.replace(" a {a}", f" {article} {{a}}").format(a=text)


# --- whole dialogues ---

SYSTEM_RATE = 0.5
TURNS = (1, 1, 1, 1, 2, 2, 3, 5)
KIND_WEIGHTS: dict[Kind, float] = {"benign": 0.5, "look_alike": 0.14, "harmful": 0.36}


@dataclass(frozen=True)
class Dialogue:
    """A conversation that ends with a user turn, and the task of that turn."""

    chat: Chat
    task: Task


class Writer:
    """Draws dialogues on the tasks of some splits."""

    def __init__(self, language: Language, tasks: Sequence[Task], rng: random.Random) -> None:
        self.language, self.rng = language, rng
        self.by_kind = {kind: [t for t in tasks if t.kind == kind] for kind in KIND_WEIGHTS}
        self.by_object: dict[str, list[Task]] = {}
        for task in tasks:
            self.by_object.setdefault(task.object, []).append(task)

    def any_task(self) -> Task:
        """Draw a task, the kinds in fixed shares."""
        kinds = [kind for kind in KIND_WEIGHTS if self.by_kind[kind]]
        weights = [KIND_WEIGHTS[kind] for kind in kinds]
        return self.rng.choice(self.by_kind[self.rng.choices(kinds, weights)[0]])

    def related(self, task: Task) -> Task | None:
        """Draw another task on the same object, if there is one."""
        others = [other for other in self.by_object[task.object] if other != task]
        return self.rng.choice(others) if others else None

    def dialogue(
        self,
        persona: Persona,
        *,
        turns: int | None = None,
        system: bool | None = None,
        last: Task | None = None,
    ) -> Dialogue:
        """Draw a conversation in which the persona has answered all turns but the last."""
        turns = self.rng.choice(TURNS) if turns is None else turns
        if self.rng.random() < SYSTEM_RATE if system is None else system:
            count = self.rng.choice((0, 1, 1, 1, 2, 3, 3, 3))
            named = self.rng.sample(TRAITS, count)
            chat = Chat().with_system(system_sentence(persona, named, self.rng))
        else:
            chat = Chat()
        speaker = Speaker(self.language, persona, self.rng)
        task = last if last is not None and turns == 1 else self.any_task()
        chat = chat.user(question(task, self.rng))
        for turn in range(1, turns):
            chat = chat.assistant(speaker.answer(task))
            following = self.related(task) if self.rng.random() < 0.5 else None
            if turn == turns - 1 and last is not None:
                following, task = None, last
            if following is not None:
                task, text = following, follow_up(following, self.rng)
            else:
                task = last if turn == turns - 1 and last is not None else self.any_task()
                text = question(task, self.rng)
            chat = chat.user(text)
        return Dialogue(chat, task)
