"""Scorers: they read responses and give one Score each, never an average.

A metric is a scorer that needs no judge (``benchmarks/metrics/<name>.py``).  A
judge is a template, a verdict parser and decoding settings
(``benchmarks/judges/<name>.txt`` and ``.py``) over a ChatBackend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.chat import Chat
from harness.contracts.backends import ChatBackend, Reply
from harness.errors import PlumblineError
from harness.records import Outcome, Prompt, Response, Score

if TYPE_CHECKING:
    from harness.engine.reward import RewardModel


@dataclass(frozen=True)
class Answered:
    """A response with what was asked: the conversation as the user put it, and the item."""

    prompt: Prompt
    chat: Chat
    response: Response

    @property
    def key(self) -> tuple[str, int]:
        """Give (prompt id, turn)."""
        return self.response.key


@dataclass
class Instruments:
    """What scoring may use; whatever the protocol does not name is None.

    reward    the evaluation reward model; optimised is the granted one.
    gold      a world's planted truth: (chat, response text) -> parts.
    embed     sentence encoder: texts -> unit vectors [texts, width].
    encoder   its name, as the table prints it.
    backends  judge backends by judge name.
    """

    reward: RewardModel | None = None
    optimised: RewardModel | None = None
    gold: Callable[[Chat, str], dict[str, float]] | None = None
    embed: Callable[[Sequence[str]], Sequence[Sequence[float]]] | None = None
    encoder: str = ""
    backends: Mapping[str, ChatBackend] | None = None


class Scorer(ABC):
    """Reads responses, returns one Score each; never an average.

    about             one line for ``make list``.
    higher_is_better  None where neither direction is better (length).
    against           True for a scorer that compares with a reference response.
    """

    about: ClassVar[str]
    higher_is_better: ClassVar[bool | None] = True
    against: ClassVar[bool] = False

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments

    def skip(self) -> str | None:
        """Give the reason this scorer cannot run under the protocol, or None."""
        return None

    @abstractmethod
    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Score every response, in order.

        reference  (prompt id, turn) -> the text compared against, for ``against`` scorers.
        """


# ------------------------------------------------------------------- judges

Verdict = Literal["A", "B", "tie"]


@dataclass(frozen=True)
class Pairwise:
    """A judge that compares two answers.

    template    jinja2 text with ``question``, ``answer_a``, ``answer_b``.
    parse       the judge's words -> "A", "B", "tie", or None: no verdict in them.
    swap        ask in both orders; the two make one observation.
    max_tokens  the judge's budget.
    about       one line for ``make list``.
    """

    template: str
    parse: Callable[[str], Verdict | None]
    about: str
    swap: bool = True
    max_tokens: int = 64

    def __post_init__(self) -> None:
        for name in ("question", "answer_a", "answer_b"):
            if name not in self.template:
                raise PlumblineError(
                    f"the judge's template has no {{{{ {name} }}}}; "
                    "it needs question, answer_a and answer_b"
                )


class PairwiseScorer(Scorer):
    """Win of each response over its reference, as one judge sees it.

    Value 1 is a win, 0 a loss, 0.5 a tie.  With both orders asked, two verdicts
    that disagree are an inconsistent pair: a half, counted as ``inconsistent`` in
    ``parts``.  If either order has no verdict the pair has none: "unparsed",
    "failed" or "refused", never a tie.
    """

    about = "pairwise win over the reference answers"
    against = True

    def __init__(self, instruments: Instruments, name: str, judge: Pairwise) -> None:
        super().__init__(instruments)
        self.name = name
        self.judge = judge

    def skip(self) -> str | None:
        """Say that no backend is configured for this judge."""
        if self.name not in (self.instruments.backends or {}):
            return f"no backend for judge {self.name!r} under [judging]"
        return None

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Ask the judge about every response, in one or both orders."""
        from jinja2 import StrictUndefined, Template

        template = Template(self.judge.template, undefined=StrictUndefined)
        backend = (self.instruments.backends or {})[self.name]
        orders = (False, True) if self.judge.swap else (False,)
        chats: list[Chat] = []
        for item in answered:
            if item.key not in reference:
                prompt, turn = item.key
                raise PlumblineError(
                    f"judge {self.name} has no answer to compare with for {prompt!r}, turn {turn}"
                )
            ours, theirs = item.response.text, reference[item.key]
            for swapped in orders:
                first, second = (theirs, ours) if swapped else (ours, theirs)
                words = template.render(
                    question=item.chat.last_user, answer_a=first, answer_b=second
                )
                chats.append(Chat.of(words))
        replies = backend.ask(chats, max_tokens=self.judge.max_tokens)
        if len(replies) != len(chats):
            raise PlumblineError(
                f"judge {self.name}: its backend gave {len(replies)} replies to "
                f"{len(chats)} questions"
            )
        step = len(orders)
        return [
            self._observe(item, replies[i * step : (i + 1) * step])
            for i, item in enumerate(answered)
        ]

    def _observe(self, item: Answered, replies: Sequence[Reply]) -> Score:
        text = "\n---\n".join(r.text or f"[{r.outcome}: {r.error}]" for r in replies)
        wins: list[float] = []
        for swapped, reply in enumerate(replies):
            outcome: Outcome = reply.outcome
            verdict = self.judge.parse(reply.text) if outcome == "ok" else None
            if verdict is None:
                bad: Outcome = "unparsed" if outcome == "ok" else outcome
                return Score(*item.key, None, bad, text=text)
            ours = "B" if swapped else "A"
            wins.append(0.5 if verdict == "tie" else float(verdict == ours))
        value = sum(wins) / len(wins)
        parts = {f"order_{i}": w for i, w in enumerate(wins)}
        if len(wins) > 1:
            parts["inconsistent"] = float(abs(wins[0] - wins[1]) == 1.0)
        return Score(*item.key, value, "tie" if set(wins) == {0.5} else "ok", parts, text)
