"""MT-Bench as FastChat judges it: its prompts, its parsers, and two orders made one verdict.

Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", arXiv 2306.05685.
A rating is written ``[[7]]`` and a winner ``[[A]]``, ``[[B]]`` or, for a tie, ``[[C]]``.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import PlumblineError, unknown

Winner = Literal["A", "B", "tie"]
Pair = Literal["model_1", "model_2", "tie", "inconsistent", "error"]

WITH_REFERENCE = frozenset({"math", "reasoning", "coding"})  # graded beside a reference answer

_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_SINGLE = re.compile(r"\[(\d+\.?\d*)\]")
_WINNERS: Mapping[str, Winner] = {"[[A]]": "A", "[[B]]": "B", "[[C]]": "tie"}


def rating(text: str) -> float | None:
    """Read the first ``[[n]]``, else the first ``[n]``; None where there is neither."""
    found = _RATING.search(text) or _SINGLE.search(text)
    return float(found.group(1)) if found else None


def winner(text: str) -> Winner | None:
    """Read a winner as FastChat does: ``[[A]]`` stands above ``[[B]]``, that above ``[[C]]``."""
    return next((name for mark, name in _WINNERS.items() if mark in text), None)


def together(first: Winner | None, second: Winner | None) -> Pair:
    """Make one verdict of two: model 1 is A in the first order and B in the second."""
    if first is None or second is None:
        return "error"
    straight: dict[Winner, Pair] = {"A": "model_1", "B": "model_2", "tie": "tie"}
    swapped: dict[Winner, Pair] = {"A": "model_2", "B": "model_1", "tie": "tie"}
    return straight[first] if straight[first] == swapped[second] else "inconsistent"


@dataclass(frozen=True)
class JudgePrompt:
    """One record of FastChat's ``judge_prompts.jsonl``."""

    name: str
    system: str
    template: str

    @property
    def fields(self) -> frozenset[str]:
        """Name the placeholders of the template."""
        return frozenset(name for _, name, _, _ in string.Formatter().parse(self.template) if name)

    def render(self, values: Mapping[str, str]) -> str:
        """Fill the template in.

        Raises PlumblineError where a placeholder has no value.
        """
        missing = self.fields - values.keys()
        if missing:
            raise PlumblineError(
                f"judge prompt {self.name} needs {', '.join(sorted(missing))}, which the question "
                "or its reference answers do not have"
            )
        return self.template.format(**{name: values[name] for name in self.fields})


def read_prompts(path: Path) -> dict[str, JudgePrompt]:
    """Read FastChat's prompts by name.

    Raises PlumblineError for a file that is none, or a prompt without the fields of its kind.
    """
    prompts: dict[str, JudgePrompt] = {}
    if not path.is_file():
        raise PlumblineError(
            f"judge prompts {path} do not exist; name FastChat's judge_prompts.jsonl"
        )
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            prompt = JudgePrompt(record["name"], record["system_prompt"], record["prompt_template"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise PlumblineError(
                f"{path}, line {number} is no judge prompt ({error!r}); it needs name, "
                "system_prompt and prompt_template"
            ) from error
        prompts[prompt.name] = _whole(prompt, str(record.get("type", "")), path)
    return prompts


def _whole(prompt: JudgePrompt, kind: str, path: Path) -> JudgePrompt:
    sides = ("answer_a", "answer_b") if kind == "pairwise" else ("answer",)
    turns = ("_1", "_2") if prompt.name.endswith("multi-turn") else ("",)
    needed = {f"{name}{turn}" for name in ("question", *sides) for turn in turns}
    missing = needed - prompt.fields
    if missing:
        raise PlumblineError(
            f"{path}: judge prompt {prompt.name} has no placeholder "
            f"{', '.join(f'{{{name}}}' for name in sorted(missing))}"
        )
    return prompt


def prompt_name(kind: Literal["single", "pair"], category: str, turn: int) -> str:
    """Name the prompt FastChat uses; ``turn`` counts from 0."""
    base = f"{kind}-math-v1" if category in WITH_REFERENCE else f"{kind}-v{'12'[kind == 'pair']}"
    return base + ("-multi-turn" if turn else "")


def values(
    questions: Sequence[str],
    answers: Mapping[str, Sequence[str]],
    references: Sequence[str],
    turn: int,
) -> dict[str, str]:
    """Give the values of a prompt's placeholders.

    answers  "answer", or "answer_a" and "answer_b" -> that side's answers by turn.
    """
    numbered = {
        **{f"question_{i}": text for i, text in enumerate(questions, 1)},
        **{f"{side}_{i}": t for side, texts in answers.items() for i, t in enumerate(texts, 1)},
        **{f"ref_answer_{i}": text for i, text in enumerate(references, 1)},
    }
    if turn == 0:
        numbered |= {"question": questions[0], **{side: t[0] for side, t in answers.items()}}
    return numbered


def chosen(prompts: Mapping[str, JudgePrompt], name: str) -> JudgePrompt:
    """Find a prompt by name."""
    if name not in prompts:
        raise unknown("judge prompt", name, prompts)
    return prompts[name]
