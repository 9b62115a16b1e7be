"""AlpacaEval's own judges: the templates, parsers and order of the installed package.

Its files are read where they lie: importing the package's evaluators would go to the Hub, and its
data loaders are scripts that current ``datasets`` refuses.  Only the parsers are imported, when
a reply is read.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import random
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.chat import Chat, Message
from harness.contracts.backends import Reply
from harness.contracts.judges import Facts, Pairwise, Ruling
from harness.errors import PlumblineError, unknown

_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_FIELD = re.compile(r"\{(instruction|output_1|output_2)\}")


@dataclass(frozen=True)
class Evaluator:
    """One of the package's evaluators.

    turns         role -> text of its prompt, with {instruction}, {output_1}, {output_2}.
    model         the judge it was made for.
    parser        the name of its parser, and what the parser is given.
    top_logprobs  how many of the likeliest tokens it reads; 0 where it reads words.
    """

    name: str
    turns: tuple[Message, ...]
    model: str
    max_tokens: int
    temperature: float
    top_logprobs: int
    parser: str
    options: Mapping[str, Any]

    def chat(self, instruction: str, first: str, second: str) -> Chat:
        """Ask about two outputs in this order."""
        values = {"instruction": instruction, "output_1": first, "output_2": second}
        return Chat(
            tuple(
                Message(turn.role, _FIELD.sub(lambda found: values[found[1]], turn.text))
                for turn in self.turns
            )
        )

    def preference(self, reply: Reply) -> float | None:
        """Read a reply with the package's parser: 1 the first output, 2 the second, or between.

        None where it cannot be read; 1.5 (written 0 by some parsers) is a draw.
        """
        completion: Any = reply.text
        if self.top_logprobs:
            if not reply.logprobs:
                return None
            completion = {"logprobs": {"content": [_as_openai(t) for t in reply.logprobs[:1]]}}
        try:
            with _quiet():
                (found,) = _parser(self.parser)(completion, **self.options)
        except Exception:  # upstream's parsers raise whatever their reading raises
            return None
        if not isinstance(found, int | float) or math.isnan(found):
            return None
        value = 1.5 if found == 0 else float(found)
        return value if 1 <= value <= 2 else None


def evaluator(name: str) -> Evaluator:
    """Read an evaluator's configuration.

    Raises PlumblineError where the package or the evaluator is missing, or where it asks by
    calling functions, which backends here do not.
    """
    import yaml

    folder = configurations()
    path = folder / name / "configs.yaml"
    if not path.is_file():
        known = [p.parent.name for p in folder.glob("*/configs.yaml")]
        raise unknown("evaluator of alpaca_eval", name, known)
    settings = yaml.safe_load(path.read_text("utf-8"))[name]
    asked = settings["completions_kwargs"]
    if "tools" in asked or "functions" in asked:
        raise PlumblineError(
            f"alpaca_eval's evaluator {name} asks by function calls, which no backend here makes; "
            "weighted_alpaca_eval_gpt4_turbo and alpaca_eval_gpt4 ask in words"
        )
    text = (folder / settings["prompt_template"]).read_text("utf-8")
    turns = tuple(Message(role, said.strip()) for role, said in _TURN.findall(text))
    missing = {"instruction", "output_1", "output_2"} - set(_FIELD.findall(text))
    if missing or not turns:
        raise PlumblineError(
            f"alpaca_eval's template of {name} lacks {', '.join(sorted(missing)) or 'turns'}"
        )
    return Evaluator(
        name,
        turns,
        str(asked["model_name"]),
        int(asked["max_tokens"]),
        float(asked["temperature"]),
        int(asked.get("top_logprobs") or 0),
        str(settings["fn_completion_parser"]),
        settings.get("completion_parser_kwargs") or {},
    )


def packaged(name: str) -> Pairwise:
    """Make a judge of one of the package's evaluators, asked in its single order."""
    upstream = evaluator(name)

    def ask(facts: Facts) -> Chat:
        return upstream.chat(facts["question"], facts["answer_a"], facts["answer_b"])

    def weigh(reply: Reply) -> Ruling | None:
        found = upstream.preference(reply)
        return None if found is None else Ruling(found - 1)

    return Pairwise(
        "\n".join(turn.text for turn in upstream.turns),
        lambda _: None,
        f"alpaca_eval's evaluator {name}, made for {upstream.model}",
        max_tokens=upstream.max_tokens,
        temperature=upstream.temperature,
        logprobs=upstream.top_logprobs,
        wording=ask,
        swap=False,
        weigh=weigh,
        first=lambda facts: model_first(facts["question"]),
    )


def model_first(instruction: str) -> bool:
    """Say whether upstream shows the model's output before the baseline's.

    Its one order an item is drawn from the instruction's own words (annotator seed 0).
    """
    seeded = random.Random(f"is_switched_outputs{instruction}0")
    return seeded.choices([False, True])[0]


def configurations() -> Path:
    """Find the package's evaluators; raises PlumblineError where it is not installed."""
    try:
        package = importlib.metadata.distribution("alpaca-eval")
    except importlib.metadata.PackageNotFoundError as error:
        raise PlumblineError(
            "alpaca_eval is not installed; pip install 'alpaca-eval>=0.6.6'"
        ) from error
    return Path(str(package.locate_file("alpaca_eval"))) / "evaluators_configs"


@cache
def _parser(name: str) -> Callable[..., list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports the deprecated pkg_resources
        try:
            from alpaca_eval import completion_parsers
        except ImportError as error:
            raise PlumblineError(
                f"alpaca_eval cannot be imported ({error}); it needs setuptools<81"
            ) from error
    found: Callable[..., list[Any]] = getattr(completion_parsers, name)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the parsers log of an unreadable reply: the outcome is counted."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _as_openai(token: Mapping[str, float]) -> dict[str, Any]:
    return {"top_logprobs": [{"token": t, "logprob": p} for t, p in token.items()]}
