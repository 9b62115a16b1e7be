"""One conversation object, and the templates that turn it into text.

The policy's one template serves fitting and generation.  A reward model and a
judge render the same conversation in templates of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.errors import unknown

Role = Literal["system", "user", "assistant", "verbatim"]


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, and the words."""

    role: Role
    text: str


@dataclass(frozen=True)
class Chat:
    """A conversation, oldest turn first; immutable, every change is a new one."""

    messages: tuple[Message, ...] = ()

    @classmethod
    def of(cls, text: str, system: str | None = None) -> Chat:
        """Build the conversation in which a user says ``text``."""
        chat = cls().user(text)
        return chat if system is None else chat.with_system(system)

    def user(self, text: str) -> Chat:
        """Append a user turn."""
        return Chat((*self.messages, Message("user", text)))

    def assistant(self, text: str) -> Chat:
        """Append an assistant turn."""
        return Chat((*self.messages, Message("assistant", text)))

    def with_system(self, text: str) -> Chat:
        """Put a system sentence first; an existing one is kept and comes after it."""
        if self.messages and self.messages[0].role == "system":
            merged = Message("system", f"{text}\n\n{self.messages[0].text}")
            return Chat((merged, *self.messages[1:]))
        return Chat((Message("system", text), *self.messages))

    @classmethod
    def verbatim(cls, text: str) -> Chat:
        """Make a conversation that every template renders as exactly this text.

        For prompt edits that lay out the whole context themselves, as in-context
        alignment of base models does.
        """
        return cls((Message("verbatim", text),))

    @property
    def verbatim_text(self) -> str | None:
        """Text of a verbatim conversation, else None."""
        only = self.messages[0] if len(self.messages) == 1 else None
        return only.text if only is not None and only.role == "verbatim" else None

    @property
    def system(self) -> str | None:
        """Text of the system turn, if there is one."""
        first = self.messages[0] if self.messages else None
        return first.text if first is not None and first.role == "system" else None

    @property
    def last_user(self) -> str:
        """Text of the last user turn; empty where nobody asked anything."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    def to_dicts(self) -> list[dict[str, str]]:
        """Give the shape that ``apply_chat_template`` and chat endpoints expect."""
        return [{"role": m.role, "content": m.text} for m in self.messages]

    @classmethod
    def from_dicts(cls, messages: list[dict[str, str]]) -> Chat:
        """Read back what ``to_dicts`` wrote."""
        return cls(tuple(Message(m["role"], m["content"]) for m in messages))  # type: ignore[arg-type]


# ---------------------------------------------------------------- templates


@dataclass(frozen=True)
class Template:
    """How a conversation becomes text.

    render  conversation -> text that ends where the assistant is to speak
            (or, when the last turn is the assistant's, right after that turn).
    stop    strings at which an answer is over: a base model goes on to write
            the user's next turn.
    bos     whether the tokenizer must still add its beginning-of-sequence
            token; False where the template writes it itself.
    """

    name: str
    render: Callable[[Chat], str]
    stop: tuple[str, ...] = ()
    bos: bool = True


def _human_assistant(chat: Chat) -> str:
    """Render in HH-RLHF's own format, which starts every turn with a blank line."""
    label = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
    text = "".join(m.text if m.role == "system" else label[m.role] + m.text for m in chat.messages)
    speaks = chat.messages and chat.messages[-1].role == "assistant"
    return text if speaks else text + "\n\nAssistant:"


VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def _vicuna(chat: Chat) -> str:
    """Render as Vicuna v1.1 and later were trained: one line, ``</s>`` after each answer."""
    text = chat.system if chat.system is not None else VICUNA_SYSTEM
    for message in chat.messages:
        if message.role == "user":
            text += "" if text.endswith("</s>") else " "
            text += f"USER: {message.text}"
        elif message.role == "assistant":
            text += f" ASSISTANT: {message.text}</s>"
    speaks = chat.messages and chat.messages[-1].role == "assistant"
    return text if speaks else text + " ASSISTANT:"


HUMAN_ASSISTANT = Template("human-assistant", _human_assistant, stop=("\n\nHuman:",))
VICUNA = Template("vicuna", _vicuna, stop=("USER:",))
PLAIN_TEMPLATES = {t.name: t for t in (HUMAN_ASSISTANT, VICUNA)}
TEMPLATE_NAMES = ("tokenizer", *sorted(PLAIN_TEMPLATES))


def plain_template(name: str) -> Template:
    """Find a template that needs no tokenizer; raises for an unknown name."""
    if name not in PLAIN_TEMPLATES:
        raise unknown("chat template", name, TEMPLATE_NAMES)
    return PLAIN_TEMPLATES[name]
