"""Prompt rewriting: the model puts the question better before it answers.

    x' = parse(greedy(p, "rewrite: " principle, x)), or x where that is no rewriting
    y ~ p(. | x')                                           rewarded and judged as an answer to x

In the manner of P-Aligner: Song et al. 2025, "P-Aligner: Enabling Pre-Alignment of Language
Models via Principled Instruction Synthesis", arXiv 2508.04626.  Theirs is a model trained on
rewritings that a tree search over ten principles found.  This is a training-free variant of
ours: the policy itself rewrites, by one principle.

    rewriter = "model"   greedy, once for a question, by the bare policy, whatever is to its left
    rewriter = "fixed"   nothing is written: the principle's own sentence follows the question
    principle = "words"  by the first class of words a question is of: safety, code, mathematics
    principle = "dev"    the one, of ten and none, whose answers to development prompts the
                         granted reward model likes best: one step of their search, for all

A reply is a rewriting if it is over within ``tokens``, marks the new question as it was told to
and keeps at least ``keep`` of the old one's longer words; an answer in its place does not pass.
Only the last question of a conversation is rewritten, and scorers never see it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from harness.api import (
    Chat,
    Fitted,
    Kit,
    Lab,
    Message,
    Method,
    Need,
    PlumblineError,
    Steering,
    at_least,
    greedily,
)
from methods._choosing import Trials, may_try, tuned
from methods._principles import PRINCIPLES, Principle, of_question

REQUEST = (
    "Rewrite the question below so that an assistant will answer it better. {ask} Keep what it "
    "asks for, do not answer it, and write nothing but the new question, between <new> and "
    "</new>.\n\n<old>{question}</old>"
)
NONE = "none"
LONG = 4  # letters of a word that a rewriting should keep


@dataclass(frozen=True)
class PromptRewrite(Method):
    """Lets the policy rewrite the last question of each conversation by a ``principle``.

    tokens  what a rewriting may take; 0 rewrites nothing.
    keep    share of the question's words of four letters or more that a rewriting must hold.
    dev     development prompts on which principle="dev" is chosen; 0 is all.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"words"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "principle": ("words", *PRINCIPLES),
        "rewriter": ("model", "fixed"),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"tokens": 0}
    tries: ClassVar[bool] = True

    principle: str = "words"
    rewriter: Literal["model", "fixed"] = "model"
    tokens: int = 128
    keep: float = 0.5
    dev: int = 64

    def __post_init__(self) -> None:
        if self.principle not in (known := ("words", "dev", NONE, *PRINCIPLES)):
            raise PlumblineError(
                f"prompt_rewrite.principle is {self.principle!r}; it must be one of "
                f"{', '.join(known)}"
            )
        if self.rewriter not in ("model", "fixed"):
            raise PlumblineError(
                f"prompt_rewrite.rewriter is {self.rewriter!r}; it must be model or fixed"
            )
        at_least(self, tokens=0, dev=0)
        if not 0 <= self.keep <= 1:
            raise PlumblineError(f"prompt_rewrite.keep is {self.keep}; it must lie in [0, 1]")

    def fits(self) -> bool:
        """Only a principle that is chosen on development prompts is learned."""
        return self.principle == "dev" and self.tokens > 0

    def fit(self, lab: Lab) -> Fitted:
        """Try every principle on development prompts; that none helps is an outcome too.

        Where nothing may be tried it is by words.
        """
        if not self.fits():
            return Fitted()
        if not may_try(lab):
            return Fitted(facts={"principle": "words"})
        trials = Trials(lab, tuned(lab, self.dev))
        names = list(PRINCIPLES)
        best = trials.best([({"principle": n}, partial(self._by, lab, n)) for n in names])
        helped = trials.scores[best] > trials.nothing.reward
        return Fitted(facts={"principle": names[best] if helped else NONE} | trials.facts())

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Rewrite every conversation's last question before it is read."""
        learned = str(fitted.facts["principle"]) if self.fits() else self.principle
        return self._by(kit, learned)

    def _by(self, kit: Kit, principle: str) -> Steering:
        if principle == NONE or not self.tokens:
            return Steering()

        def named(question: str) -> Principle:
            return PRINCIPLES[of_question(question) if principle == "words" else principle]

        def added(questions: Sequence[str]) -> list[str]:
            return [f"{q} {named(q).say}" for q in questions]

        known: dict[str, str] = {}  # a question is rewritten once in a run

        def rewritten(questions: Sequence[str]) -> list[str]:
            new = [q for q in dict.fromkeys(questions) if q not in known]
            requests = [Chat.of(REQUEST.format(ask=named(q).ask, question=q)) for q in new]
            replies = greedily(kit.model, requests, self.tokens, batch_rows=kit.batch_rows)
            known.update({q: parsed(r, q, self.keep) for q, r in zip(new, replies, strict=True)})
            return [known[q] for q in questions]

        how = rewritten if self.rewriter == "model" else added
        return Steering(prompt=(partial(changed, how),))


def changed(rewrite: Callable[[Sequence[str]], Sequence[str]], chats: Sequence[Chat]) -> list[Chat]:
    """Put other words in the place of each conversation's last question, where it has one."""
    asked = [number for number, chat in enumerate(chats) if chat.last_user.strip()]
    words = dict(zip(asked, rewrite([chats[i].last_user for i in asked]), strict=True))
    return [_asking(chat, words.get(number, "")) for number, chat in enumerate(chats)]


def _asking(chat: Chat, words: str) -> Chat:
    if not words or words == chat.last_user:
        return chat
    last = max(i for i, m in enumerate(chat.messages) if m.role == "user")
    turns: list[Message] = list(chat.messages)
    turns[last] = replace(turns[last], text=words)
    return Chat(tuple(turns))


def parsed(reply: str | None, question: str, keep: float) -> str:
    """Find the new question in a rewriter's reply; the old one where there is none."""
    found = re.fullmatch(r"\s*<new>(.*)</new>\s*", reply or "", re.DOTALL)
    new = found[1].strip() if found else ""
    if not new or re.search("</?(old|new)>", new):
        return question
    old = set(longer(question))
    kept = len(old & set(longer(new))) / len(old) if old else 1.0
    return new if kept >= keep else question


def longer(text: str) -> list[str]:
    """Give a text's words of four letters or more, without case."""
    return [w for w in re.findall(r"\w+", text.casefold()) if len(w) >= LONG]
