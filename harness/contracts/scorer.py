"""Scorers: they read responses and give one Score each, never an average.

A metric is a scorer that needs no judge (``benchmarks/metrics/<name>.py``).  Over a judge
(``contracts/judges.py``) and a ChatBackend stands one of three: of pairs, grades or labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from harness.chat import Chat
from harness.contracts.backends import ChatBackend, Reply
from harness.contracts.judges import Facts, Judge, Labelled, Pairwise, Single, Verdict
from harness.errors import PlumblineError
from harness.records import Outcome, Prompt, Response, Score

if TYPE_CHECKING:
    from harness.engine.reward import RewardModel


__all__ = [
    "Answered",
    "Instruments",
    "JudgeScorer",
    "LabelledScorer",
    "Pairwise",
    "PairwiseScorer",
    "Scorer",
    "SingleScorer",
    "Verdict",
    "alone",
    "facts",
    "judge_scorer",
]


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

J = TypeVar("J", bound=Judge)


class JudgeScorer(Scorer, Generic[J]):
    """A judge over its backend; ``measure`` names the column its scores stand in."""

    about = "as a judge sees it"
    measure: str = "score"

    def __init__(self, instruments: Instruments, name: str, judge: J) -> None:
        super().__init__(instruments)
        self.name = name
        self.judge = judge

    def skip(self) -> str | None:
        """Say that no backend is configured for this judge."""
        if self.name not in (self.instruments.backends or {}):
            return f"no backend for judge {self.name!r} under [judging]"
        return None

    def replies(self, chats: Sequence[Chat]) -> Sequence[Reply]:
        """Ask the judge; raises PlumblineError where its backend loses a question."""
        backend = (self.instruments.backends or {})[self.name]
        replies = backend.ask(chats, **self.judge.decoding)
        if len(replies) != len(chats):
            raise PlumblineError(
                f"judge {self.name}: its backend gave {len(replies)} replies to "
                f"{len(chats)} questions"
            )
        return replies


class PairwiseScorer(JudgeScorer[Pairwise]):
    """Win of each response over its reference, as one judge sees it.

    Value 1 is a win, 0 a loss, 0.5 a tie.  With both orders asked, two verdicts
    that disagree are an inconsistent pair: a half, counted as ``inconsistent`` in
    ``parts``.  If either order has no verdict the pair has none: "unparsed",
    "failed" or "refused", never a tie.
    """

    about = "pairwise win over the reference answers"
    against = True
    measure = "win_rate"

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Ask the judge about every response, in one or both orders."""
        chats: list[Chat] = []
        orders: list[tuple[bool, ...]] = []
        for item in answered:
            known, theirs = facts(item), _opponent(self.name, item, reference)
            ours = known.pop("answers")
            swap, first = self.judge.swap, self.judge.first
            orders.append((False, True) if swap else (bool(first and not first(known)),))
            for swapped in orders[-1]:
                a, b = (theirs, ours) if swapped else (ours, theirs)
                sides = {"answers_a": a, "answers_b": b, "answer_a": a[-1], "answer_b": b[-1]}
                chats.append(self.judge.ask(known | sides))
        left = iter(self.replies(chats))
        return [
            self._observe(item, [(swapped, next(left)) for swapped in asked])
            for item, asked in zip(answered, orders, strict=True)
        ]

    def _observe(self, item: Answered, replies: Sequence[tuple[bool, Reply]]) -> Score:
        text = _words([reply for _, reply in replies])
        wins: list[float] = []
        marks: list[tuple[float, ...]] = []
        for swapped, reply in replies:
            ruling = self.judge.rule(reply) if reply.outcome == "ok" else None
            if ruling is None:
                return _unread(item, reply, text)
            wins.append(ruling.share if swapped else 1.0 - ruling.share)
            marks.append(ruling.marks[::-1] if swapped else ruling.marks)
        value = sum(wins) / len(wins)
        parts = {f"order_{i}": w for i, w in enumerate(wins)}
        if len(wins) > 1:
            parts["inconsistent"] = float((min(wins) < 0.5) and (max(wins) > 0.5))
        if all(len(given) == 2 for given in marks):
            for place, side in enumerate(("mark", "mark_other")):
                parts[side] = sum(given[place] for given in marks) / len(marks)
        return Score(*item.key, value, "tie" if set(wins) == {0.5} else "ok", parts, text)


S = TypeVar("S", bound=Single | Labelled)


class AloneScorer(JudgeScorer[S]):
    """A judge of single answers: one question and one reply for each response."""

    def __init__(self, instruments: Instruments, name: str, judge: S) -> None:
        super().__init__(instruments, name, judge)
        self.measure = judge.measure

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Ask the judge about every response."""
        replies = self.replies([self.judge.ask(alone(item)) for item in answered])
        return [self._observe(item, r) for item, r in zip(answered, replies, strict=True)]

    def _observe(self, item: Answered, reply: Reply) -> Score:
        text = _words([reply])
        found = self.judge.parse(reply.text) if reply.outcome == "ok" else None
        return _unread(item, reply, text) if found is None else self._read(item, found, text)

    @abstractmethod
    def _read(self, item: Answered, found: Any, text: str) -> Score:
        """Make a score of what the judge was understood to say."""


class SingleScorer(AloneScorer[Single]):
    """The grade of each response, as one judge gives it."""

    about = "a judge's grade"

    def _read(self, item: Answered, found: Any, text: str) -> Score:
        return Score(*item.key, float(found), text=text)


class LabelledScorer(AloneScorer[Labelled]):
    """1 where a response falls under the label that is wanted; every label is a sub-score."""

    about = "the share of answers under the label that is wanted"

    def _read(self, item: Answered, found: Any, text: str) -> Score:
        if found not in self.judge.labels:
            raise PlumblineError(
                f"judge {self.name} gave the label {found!r}; "
                f"its labels are {', '.join(self.judge.labels)}"
            )
        parts = {label: float(label == found) for label in self.judge.labels}
        return Score(*item.key, self.judge.labels[found], "ok", parts, text)


def judge_scorer(instruments: Instruments, name: str, judge: Judge) -> JudgeScorer[Any]:
    """Put a judge to work; raises PlumblineError for a kind of judge that there is not."""
    match judge:
        case Pairwise():
            return PairwiseScorer(instruments, name, judge)
        case Single():
            return SingleScorer(instruments, name, judge)
        case Labelled():
            return LabelledScorer(instruments, name, judge)
    raise PlumblineError(
        f"JUDGE of {name} is a {type(judge).__name__}; it must be Pairwise, Single or Labelled"
    )


def facts(item: Answered) -> dict[str, Any]:
    """Give what a judge's template may name, and the item's own ``answers`` by turn."""
    prompt, turn = item.prompt, item.response.turn
    said = item.chat.messages[len(prompt.chat.messages) :]
    answers = [m.text for m in said if m.role == "assistant"] + [item.response.text]
    references = (prompt.reference, *prompt.further)[: turn + 1]
    last = references[turn] if turn < len(references) else None
    return {
        "question": item.chat.last_user,
        "conversation": item.chat.messages,
        "questions": [prompt.chat.last_user, *prompt.turns[:turn]],
        "references": [text for text in references if text is not None],
        "reference": last or "",
        "category": prompt.category or "",
        "turn": turn,
        "answers": answers,
    }


def alone(item: Answered) -> Facts:
    """Give the facts for a judge of single answers."""
    return facts(item) | {"answer": item.response.text}


def _opponent(judge: str, item: Answered, reference: Mapping[tuple[str, int], str]) -> list[str]:
    """Give the other side's answers of all turns so far."""
    prompt, turn = item.key
    if item.key not in reference:
        raise PlumblineError(
            f"judge {judge} has no answer to compare with for {prompt!r}, turn {turn}"
        )
    return [reference.get((prompt, earlier), "") for earlier in range(turn)] + [reference[item.key]]


def _words(replies: Sequence[Reply]) -> str:
    return "\n---\n".join(r.text or f"[{r.outcome}: {r.error}]" for r in replies)


def _unread(item: Answered, reply: Reply, text: str) -> Score:
    bad: Outcome = "unparsed" if reply.outcome == "ok" else reply.outcome
    return Score(*item.key, None, bad, text=text)
