"""From a context of lm-evaluation-harness to the tokens a steered model reads.

lm-eval hands over strings.  What a method sees and adds:

with a chat template     the turns are known: the method's prompt edits meet the conversation
                         as they do on a benchmark, and the edited one is rendered in the
                         model's template.  An answer's given beginning (``gen_prefix``) stays
                         where it was.
without one              the context is what the user says.  The words a method puts before it
                         (a system sentence, examples) come first, a blank line after each
                         turn, as lm-eval puts its own ``system_instruction``; a context that a
                         method lays out whole is taken as laid out.

A context that no edit has changed is encoded as lm-eval's own Hugging Face model encodes it.
The tokens that are scored are the unedited context's: the same for every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.chat import Chat
from harness.engine.model import Model
from harness.engine.steering import Steering


@dataclass(frozen=True)
class Given(Chat):
    """A conversation whose ids are decided already."""

    ids: tuple[int, ...] = ()


class Reader(Model):
    """The same model, reading given ids.

    chats  whether contexts are conversations: an answer then ends where the template's
           next turn would begin.
    """

    def __init__(self, model: Model, *, chats: bool) -> None:
        vars(self).update(vars(model))
        self.context = model.context + 1  # the last token of a text is scored, never read
        if not chats:
            self.template = replace(model.template, stop=())

    def encode(self, chat: Chat) -> list[int]:
        """Give the ids that were given."""
        return list(chat.ids) if isinstance(chat, Given) else super().encode(chat)


class Contexts:
    """The contexts of one language model: which were rendered from which conversation."""

    def __init__(self, model: Model, steering: Steering, prefix: int) -> None:
        self.model = model
        self.steering = steering
        self.prefix = prefix
        self._rendered: dict[str, tuple[Chat, str]] = {}

    def render(self, turns: Sequence[dict[str, str]], *, answer_opens: bool) -> str:
        """Render turns in the model's template and remember them by the text.

        answer_opens  False where the last turn is the beginning of the answer.
        """
        begun = "" if answer_opens or not turns else turns[-1]["content"]
        chat = Chat.from_dicts(list(turns if answer_opens else turns[:-1]))
        text = self.model.render(chat) + begun
        self._rendered[text] = (chat, begun)
        return text

    def encode(self, text: str, special: bool | None = None) -> list[int]:
        """Encode as lm-eval does: no second beginning-of-sequence token."""
        tokenizer: Any = self.model.tokenizer
        if special is None and text.startswith(tokenizer.decode(self.prefix)):
            special = False
        more = {} if special is None else {"add_special_tokens": special}
        ids: list[int] = tokenizer.encode(text, **more)
        return ids

    def given(
        self, contexts: Sequence[str], ids: Sequence[Sequence[int]], *, blanks: bool
    ) -> list[Given]:
        """Give every context as what the user says and what the model is to read.

        ids     the tokens of each context as it stands; kept where no prompt edit changes it.
        blanks  False where lm-eval has moved the blanks at a context's end to what follows.
        """
        asked = [self._rendered.get(c, (Chat.of(c), "")) for c in contexts]
        seen = self.steering.prompted([chat for chat, _ in asked])
        out = []
        for context, own, (chat, begun), edited in zip(contexts, ids, asked, seen, strict=True):
            read = list(own)
            if edited != chat:
                known = context in self._rendered
                text = (self.model.render(edited) if known else plainly(edited)) + begun
                moved = "" if blanks else context[len(context.rstrip()) :]
                read = self.encode(text.removesuffix(moved))
            out.append(Given(chat.messages, tuple(read)))
        return out

    def additions(self) -> list[int]:
        """Give the tokens a method puts before a text that nobody asked for."""
        (chat,) = self.steering.prompted([Chat.of("")])
        return [] if chat == Chat.of("") else self.encode(plainly(chat))


def plainly(chat: Chat) -> str:
    """Lay a conversation out as plain text: a blank line after each turn but the last."""
    verbatim = chat.verbatim_text
    return "\n\n".join(m.text for m in chat.messages) if verbatim is None else verbatim
