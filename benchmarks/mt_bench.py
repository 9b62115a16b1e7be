"""MT-Bench: 80 questions of two turns in eight categories.

Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", arXiv 2306.05685; files
as in FastChat: ``question.jsonl`` (``question_id``, ``category``, ``turns``, sometimes
``reference``) and, optionally after it, the records of a reference answer file
(``question_id``, ``choices``).  The Hub's table of the same questions names the fields
``prompt_id`` and ``prompt``; that is read too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

from benchmarks._reading import cluster, place, text, texts, usable, whole
from harness.api import Benchmark, Chat, Json, PlumblineError, Prompt, Read

# FastChat's own temperatures (llm_judge/common.py, temperature_config); 0.7 elsewhere.
TEMPERATURE = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
OTHER_TEMPERATURE = 0.7

REPEATED = "repeated question ids (kept, one cluster)"
EMPTY = "questions with an empty turn (left out)"
UNUSED = "references in the question file, unused since reference answers are given"
STRAY = "reference answers to no question (unused)"


class MTBench(Benchmark):
    """Answers to two-turn questions, each turn scored."""

    title: ClassVar[str] = "MT-Bench"
    about: ClassVar[str] = "80 two-turn questions in eight categories; both turns are answered"
    headline: ClassVar[tuple[str, ...]] = ("gold", "grade", "win_rate", "reward")
    scorers: ClassVar[tuple[str, ...]] = (
        "reward",
        "optimised_reward",
        "gold",
        "diversity",
        "coherence",
        "refusal",
        "length",
    )
    sampling: ClassVar[Mapping[str, Json]] = {"max_new_tokens": 1024}
    cluster: ClassVar[str] = "question"

    def read(self, items: Iterable[Mapping[str, Json]]) -> Read:
        """Turn questions, and reference answers where they come, into two-turn prompts.

        Raises PlumblineError for a missing field, a wrong shape or where nothing is usable.
        """
        read = Read()
        answers: dict[str, tuple[str, ...]] = {}
        seen: dict[str, int] = {}
        for number, item in enumerate(items, 1):
            name = _question_id(item, number)
            if "choices" in item:
                answers[name] = _answers(item, number)
                continue
            turns = texts(item, "turns" if "prompt" not in item else "prompt", number)
            if not turns or not all(turn.strip() for turn in turns):
                read.notes[EMPTY] += 1
                continue
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                read.notes[REPEATED] += 1
            own = texts(item, "reference", number) if item.get("reference") else ()
            prompt = Prompt(
                name if seen[name] == 1 else f"{name}-{seen[name]}",
                Chat.of(turns[0]),
                turns=turns[1:],
                cluster=cluster(item, name, number),
                category=text(item, "category", number),
            )
            read.prompts.append(_with_reference(prompt, own))
        if answers:
            self._refer(read, answers)
        return usable(read, self.title)

    def sampling_for(self, prompt: Prompt) -> Mapping[str, Json]:
        """Give FastChat's temperature for the question's category."""
        temperature = TEMPERATURE.get(prompt.category or "", OTHER_TEMPERATURE)
        return {**self.sampling, "temperature": temperature}

    def _refer(self, read: Read, answers: Mapping[str, tuple[str, ...]]) -> None:
        """Let the reference answer file stand above references in the question file."""
        read.notes[UNUSED] += sum(p.reference is not None for p in read.prompts)
        read.notes[STRAY] += len(set(answers) - {p.id for p in read.prompts})
        read.notes += type(read.notes)()  # drops the counts that are zero
        read.prompts[:] = [_with_reference(p, answers.get(p.id, ())) for p in read.prompts]


def _with_reference(prompt: Prompt, answers: tuple[str, ...]) -> Prompt:
    """Put the set's answers to the first and to the further turns into the prompt."""
    return replace(prompt, reference=answers[0] if answers else None, further=answers[1:])


def _question_id(item: Mapping[str, Json], number: int) -> str:
    value = item.get("question_id", item.get("prompt_id"))
    if value is None or value == "":
        raise PlumblineError(f"{place(item, number)}: no field 'question_id'")
    return whole(str(value), place(item, number))


def _answers(item: Mapping[str, Json], number: int) -> tuple[str, ...]:
    """Read the turns of the first choice of a reference answer."""
    match item["choices"]:
        case [Mapping() as first, *_]:
            return texts(first, "turns", number)
    raise PlumblineError(f"{place(item, number)}: field 'choices' must be a list of objects")
