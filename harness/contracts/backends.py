"""The narrow waist behind every judge: messages in, text out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.chat import Chat


@dataclass(frozen=True)
class Reply:
    """What a backend said, or why it said nothing.

    outcome  "ok", "refused" (the service declined) or "failed" (no text came back).
    error    one line, where there is no text.
    """

    text: str
    outcome: Literal["ok", "refused", "failed"] = "ok"
    error: str = ""


class ChatBackend(ABC):
    """Whatever answers a judge's prompt: a local model, an endpoint, a canned list."""

    name: str

    @abstractmethod
    def ask(self, chats: Sequence[Chat], *, max_tokens: int) -> Sequence[Reply]:
        """Answer each conversation, in order; a failure is a Reply, never an exception."""


class Canned(ChatBackend):
    """Answers from a function; what the tests judge with."""

    def __init__(self, answer: Callable[[Chat], str | Reply], name: str = "canned") -> None:
        self.name = name
        self._answer = answer

    def ask(self, chats: Sequence[Chat], *, max_tokens: int) -> Sequence[Reply]:
        """Answer each conversation with the function."""
        replies = [self._answer(chat) for chat in chats]
        return [r if isinstance(r, Reply) else Reply(r) for r in replies]
