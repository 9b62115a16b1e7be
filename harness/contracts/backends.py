"""The narrow waist behind every judge: messages in, text out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.chat import Chat


@dataclass(frozen=True)
class Reply:
    """What a backend said, or why it said nothing.

    outcome     "ok", "refused" (the service declined) or "failed" (no text came back).
    error       one line, where there is no text.
    logprobs    one mapping a token of the reply: its likeliest tokens -> natural log
                of their probability.  None where nobody asked or the backend has none.
    stop        why the text ended: "stop", "length" (cut off by ``max_tokens``), or ""
                where the backend does not say.
    tokens_in   tokens of the question that were paid for.
    tokens_out  tokens of the reply that were paid for.
    served      the model that answered, as the backend names it.
    """

    text: str
    outcome: Literal["ok", "refused", "failed"] = "ok"
    error: str = ""
    logprobs: tuple[Mapping[str, float], ...] | None = field(default=None, hash=False)
    stop: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    served: str = ""


def spoken(reply: Reply) -> Reply:
    """Take a model's thinking out of its reply; with nothing said after it, it has failed.

    Thinking that was cut off by the budget is no answer, whatever words are in it.
    """
    text = reply.text
    if "</think>" in text:
        text = text.rpartition("</think>")[2].lstrip()
    elif text.lstrip().startswith("<think>"):
        text = ""
    if text.strip():
        return replace(reply, text=text)
    why = "the budget of tokens ran out" if reply.stop == "length" else "an empty reply"
    return replace(reply, text="", outcome="failed", error=f"nothing was said: {why}")


Arrived = Callable[[int, Reply], None]  # position of the question, its reply


class ChatBackend(ABC):
    """Whatever answers a judge's prompt: a local model, an endpoint, a canned list."""

    name: str

    @abstractmethod
    def ask(
        self,
        chats: Sequence[Chat],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        logprobs: int = 0,
        draw: int = 0,
        arrived: Arrived | None = None,
    ) -> Sequence[Reply]:
        """Answer each conversation, in order.

        temperature  0 is greedy.
        logprobs     how many of the likeliest tokens to give with each token; 0 for none.
        draw         another number is another sample of the same question (temperature > 0).
        arrived      called with each reply as it comes, before more is asked.

        What goes wrong with one question is its Reply, never an exception.  What would
        go wrong with all of them (no key, no such model) raises PlumblineError.
        """


class Canned(ChatBackend):
    """Answers from a function; what the tests judge with."""

    def __init__(self, answer: Callable[[Chat], str | Reply], name: str = "canned") -> None:
        self.name = name
        self._answer = answer

    def ask(
        self,
        chats: Sequence[Chat],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        logprobs: int = 0,
        draw: int = 0,
        arrived: Arrived | None = None,
    ) -> Sequence[Reply]:
        """Answer each conversation with the function."""
        replies = []
        for position, chat in enumerate(chats):
            said = self._answer(chat)
            replies.append(said if isinstance(said, Reply) else Reply(said))
            if arrived is not None:
                arrived(position, replies[-1])
        return replies
