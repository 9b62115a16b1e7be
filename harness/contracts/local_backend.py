"""A judge (or any chat model) run through our own loop."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

from harness.chat import Chat
from harness.contracts.backends import Arrived, ChatBackend, Reply, spoken
from harness.engine.decoding import Job, decode
from harness.engine.density import likeliest
from harness.engine.jobs import Decoded
from harness.engine.model import Model
from harness.engine.sampling import Sampling
from harness.errors import PlumblineError
from harness.ledger import Ledger

STOPS = {"eos": "stop", "string": "stop", "length": "length"}


class LocalBackend(ChatBackend):
    """Answers with a causal LM, batched; equal prompts are answered once.

    A sample (temperature > 0) depends on the question and the draw alone, so neither
    the order of the questions nor the batch size changes a reply.
    """

    def __init__(self, model: Model, *, name: str = "", batch_rows: int = 64) -> None:
        self.model = model
        self.name = name or model.name
        self.batch_rows = batch_rows

    def metered(self, ledger: Ledger) -> AbstractContextManager[Ledger]:
        """Count what is spent inside the block on ``ledger``."""
        return self.model.metered(ledger)

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
        """Answer each conversation; one too long for the model fails, and says so."""
        how = Sampling(temperature=temperature, max_new_tokens=max_tokens)
        places: dict[Chat, list[int]] = {}
        for position, chat in enumerate(chats):
            places.setdefault(chat, []).append(position)
        replies: dict[Chat, Reply] = {}

        def found(chat: Chat, reply: Reply) -> None:
            replies[chat] = reply
            for position in places[chat]:
                if arrived is not None:
                    arrived(position, reply)

        jobs = []
        for chat in places:
            size = len(self.model.encode(chat)) + max_tokens
            if size > self.model.context:
                why = f"{size} tokens do not fit the judge's context of {self.model.context}"
                found(chat, Reply("", "failed", why))
            else:
                jobs.append(Job(_name(chat), chat, how))
        try:
            for batch in decode(self.model, jobs, seed=draw, batch_rows=self.batch_rows):
                mine = [jobs[d.job] for d in batch]
                for job, reply in zip(mine, self._replies(mine, batch, logprobs), strict=True):
                    found(job.chat, reply)
        except PlumblineError as error:
            for job in jobs:
                if job.chat not in replies:
                    found(job.chat, Reply("", "failed", str(error)))
        return [replies[chat] for chat in chats]

    def _replies(self, jobs: Sequence[Job], batch: Sequence[Decoded], count: int) -> list[Reply]:
        tokens = [d.tokens for d in batch]
        tops = likeliest(self.model, jobs, tokens, count) if count else [None] * len(batch)
        return [
            spoken(
                Reply(
                    d.text,
                    logprobs=None if top is None else self._words(top),
                    stop=STOPS[d.stop],
                    tokens_in=len(self.model.encode(job.chat)),
                    tokens_out=len(d.tokens),
                    served=self.model.name,
                )
            )
            for job, d, top in zip(jobs, batch, tops, strict=True)
        ]

    def _words(self, top: Sequence[Sequence[tuple[int, float]]]) -> tuple[dict[str, float], ...]:
        """Name tokens by their text; of tokens with one text the likeliest stands."""
        return tuple(
            {self.model.tokenizer.decode([token]): logp for token, logp in reversed(step)}
            for step in top
        )


def _name(chat: Chat) -> str:
    """Name a question by its words: what its samples depend on."""
    return hashlib.blake2b(repr(chat).encode("utf-8", "backslashreplace")).hexdigest()[:20]
