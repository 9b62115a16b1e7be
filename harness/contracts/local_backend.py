"""A judge (or any chat model) run through our own loop."""

from __future__ import annotations

from collections.abc import Sequence

from harness.chat import Chat
from harness.contracts.backends import ChatBackend, Reply
from harness.engine.decoding import Job, decode
from harness.engine.model import Model
from harness.engine.sampling import Sampling
from harness.errors import PlumblineError


class LocalBackend(ChatBackend):
    """Answers greedily with a causal LM, batched; equal prompts are answered once."""

    def __init__(self, model: Model, *, name: str = "", batch_rows: int = 64) -> None:
        self.model = model
        self.name = name or model.name
        self.batch_rows = batch_rows

    def ask(self, chats: Sequence[Chat], *, max_tokens: int) -> Sequence[Reply]:
        """Answer each conversation; one too long for the model fails, and says so."""
        how = Sampling(temperature=0, max_new_tokens=max_tokens)
        unique = list(dict.fromkeys(chats))
        replies: dict[Chat, Reply] = {}
        jobs = []
        for number, chat in enumerate(unique):
            size = len(self.model.encode(chat)) + max_tokens
            if size > self.model.context:
                why = f"{size} tokens do not fit the judge's context of {self.model.context}"
                replies[chat] = Reply("", "failed", why)
            else:
                jobs.append(Job(str(number), chat, how))
        try:
            for batch in decode(self.model, jobs, batch_rows=self.batch_rows):
                replies |= {jobs[d.job].chat: Reply(d.text) for d in batch}
        except PlumblineError as error:
            for job in jobs:
                replies.setdefault(job.chat, Reply("", "failed", str(error)))
        return [replies[chat] for chat in chats]
