"""Judges: what each is asked, and how its reply is read.

A judge is a template, a parser and decoding settings (``benchmarks/judges/<name>.py`` names them
as ``JUDGE``).  There are three kinds: one compares two answers, one grades an answer, one puts
an answer under a label.  Who asks, and over which backend, is ``contracts/scorer.py``.

What a template may name:

    question       the last thing the user said
    conversation   all turns up to it: each has ``role`` and ``text``
    questions      the benchmark's own questions, up to this turn
    references     the set's own answers to them, as far as it has some
    reference      its answer to the last of them, or ""
    category       the set's own grouping, or ""
    answer, answers                          the answer, and those of all turns so far
    answer_a, answer_b, answers_a, answers_b   the same of two sides
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.chat import Chat
from harness.contracts.backends import Reply
from harness.errors import PlumblineError

if TYPE_CHECKING:
    from jinja2 import Template

Verdict = Literal["A", "B", "tie"]
Facts = Mapping[str, Any]

# What shows a judge as much as the name it needs, or more.
IN_PLACE_OF: Mapping[str, tuple[str, ...]] = {
    "question": ("questions", "conversation"),
    "answer": ("answers",),
    "answer_a": ("answers_a",),
    "answer_b": ("answers_b",),
}


@dataclass(frozen=True)
class Ruling:
    """A verdict that is more than a name.

    share  how much of the item goes to the second answer (B), in [0, 1].
    marks  what each side was given, the first side's first; empty where nothing was.
    """

    share: float
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Judge:
    """What all judges have.

    template     jinja2 text; the names it may use stand at the head of this file.
    parse        the judge's words -> what they say, or None: nothing that can be read.
    about        one line for ``make list``.
    system       a system sentence, or "".
    max_tokens   the judge's budget.
    temperature  0 is greedy.
    logprobs     how many of the likeliest tokens to ask for with each token.
    wording      asks in words of its own instead of the template: facts -> conversation.
    prompts      which of FastChat's prompts a protocol may put in the template's place, or "".
    """

    template: str
    parse: Callable[[str], Any]
    about: str
    max_tokens: int = field(default=64, kw_only=True)
    system: str = field(default="", kw_only=True)
    temperature: float = field(default=0.0, kw_only=True)
    logprobs: int = field(default=0, kw_only=True)
    wording: Callable[[Facts], Chat] | None = field(default=None, kw_only=True)
    prompts: Literal["", "single", "pair"] = field(default="", kw_only=True)

    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.wording is not None:
            return
        named = _named(self.template)
        for name in self.needs:
            if not named & {name, *IN_PLACE_OF.get(name, ())}:
                *most, last = self.needs
                raise PlumblineError(
                    f"the judge's template has no {{{{ {name} }}}}; "
                    f"it needs {', '.join(most)} and {last}"
                )

    def ask(self, facts: Facts) -> Chat:
        """Put the question to the judge.

        Raises PlumblineError where the template names what is not known.
        """
        if self.wording is not None:
            return self.wording(facts)
        from jinja2 import UndefinedError

        try:
            words = self._compiled.render(facts)
        except UndefinedError as error:
            raise PlumblineError(f"the judge's template cannot be filled in: {error}") from error
        return Chat.of(words, self.system or None)

    @property
    def decoding(self) -> dict[str, Any]:
        """Give what the backend is told beside the question."""
        settings: dict[str, Any] = {"max_tokens": self.max_tokens}
        if self.temperature:
            settings["temperature"] = self.temperature
        if self.logprobs:
            settings["logprobs"] = self.logprobs
        return settings

    @cached_property
    def _compiled(self) -> Template:
        from jinja2 import Environment, StrictUndefined

        return Environment(undefined=StrictUndefined).from_string(self.template)


def _named(template: str) -> set[str]:
    """Give the names a template uses; raises PlumblineError where it is no template."""
    from jinja2 import Environment, TemplateSyntaxError, meta

    try:
        return meta.find_undeclared_variables(Environment().parse(template))
    except TemplateSyntaxError as error:
        raise PlumblineError(
            f"the judge's template is broken in line {error.lineno}: {error.message}"
        ) from error


@dataclass(frozen=True)
class Pairwise(Judge):
    """A judge that compares two answers.

    parse  the judge's words -> "A", "B", "tie" or a Ruling, or None: no verdict in them.
    swap   ask in both orders; the two make one observation.
    weigh  reads the whole reply, token probabilities too, instead of ``parse``.
    first  where ``swap`` is off: whether our answer stands first, by the question's facts.
    """

    swap: bool = True
    weigh: Callable[[Reply], Ruling | None] | None = None
    first: Callable[[Facts], bool] | None = None

    needs: ClassVar[tuple[str, ...]] = ("question", "answer_a", "answer_b")

    def rule(self, reply: Reply) -> Ruling | None:
        """Read a reply."""
        if self.weigh is not None:
            return self.weigh(reply)
        said = self.parse(reply.text)
        if said is None or isinstance(said, Ruling):
            return said
        return Ruling({"A": 0.0, "B": 1.0, "tie": 0.5}[said])


@dataclass(frozen=True)
class Single(Judge):
    """A judge that grades one answer.

    parse    the judge's words -> a grade, or None.
    measure  what a column of grades is called.
    """

    measure: str = "grade"

    needs: ClassVar[tuple[str, ...]] = ("question", "answer")


@dataclass(frozen=True)
class Labelled(Judge):
    """A judge that puts an answer under one of a few labels.

    parse    the judge's words -> a label, or None.
    labels   every label -> what it is worth: 1 for the label that is wanted, 0 for others.
    measure  what the share of wanted answers is called.
    """

    labels: Mapping[str, float] = field(default_factory=dict)
    measure: str = "share"

    needs: ClassVar[tuple[str, ...]] = ("question", "answer")
