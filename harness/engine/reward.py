"""A reward model: one number for a conversation and an answer, in its own template."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.chat import Chat, Template
from harness.engine.jobs import out_of_memory
from harness.engine.model import (
    Model,
    load_network,
    load_tokenizer,
    pick_device,
    pick_template,
)
from harness.engine.packed import packs
from harness.engine.prefixes import (
    CandidateRewards,
    Growing,
    OtherTokens,
    SameTokens,
    Whole,
    same_tokens,
)
from harness.engine.rows import Rows
from harness.errors import PlumblineError
from harness.ledger import Ledger, Metered
from harness.records import Json


class RewardModel(Metered):
    """Any sequence classifier with one output, batched and sorted by length.

    It renders the user's conversation in its own template: a method's prompt
    additions never reach it.  Equal texts are scored once.

    max_length  tokens it reads; a longer conversation is scored NaN and counted
                in ``too_long`` rather than cut.
    """

    def __init__(
        self,
        net: Any,
        tokenizer: Any,
        template: Template,
        *,
        name: str,
        role: str = "reward",
        batch_size: int = 64,
        max_length: int | None = None,
    ) -> None:
        outputs = int(net.config.num_labels)
        if outputs != 1:
            raise PlumblineError(
                f"reward model {name} returns {outputs} numbers for a text; it must return one"
            )
        self.net = net.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.template = template
        self.name = name
        self.role = role
        self.batch_size = batch_size
        self.device = next(net.parameters()).device
        text = net.config.get_text_config()
        self.max_length = max_length or int(getattr(text, "max_position_embeddings", 1 << 30))
        self.pad = int(tokenizer.pad_token_id or net.config.pad_token_id or 0)
        self.ledger = Ledger()
        self.too_long = 0

    @classmethod
    def load(
        cls,
        path: str,
        *,
        revision: str | None = None,
        template: str = "tokenizer",
        dtype: str = "float32",
        device: str | None = None,
        role: str = "reward",
        name: str | None = None,
        batch_size: int = 64,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ) -> RewardModel:
        """Load a Hub model or a local folder; raises PlumblineError as ``Model.load`` does."""
        from transformers import AutoModelForSequenceClassification

        tokenizer = load_tokenizer(path, revision=revision, trust_remote_code=trust_remote_code)
        chosen = pick_template(template, tokenizer, path)
        net = load_network(
            AutoModelForSequenceClassification,
            path,
            revision=revision,
            trust_remote_code=trust_remote_code,
            dtype=dtype,
        )
        return cls(
            net.to(pick_device(device)),
            tokenizer,
            chosen,
            name=name or path,
            role=role,
            batch_size=batch_size,
            max_length=max_length,
        )

    def encode(self, chat: Chat, text: str) -> list[int]:
        """Give the ids the model reads for one answer."""
        ids: list[int] = self.tokenizer(
            self.template.render(chat.assistant(text)), add_special_tokens=self.template.bos
        ).input_ids
        return ids

    def score(self, chats: Sequence[Chat], texts: Sequence[str]) -> list[float]:
        """Score each answer; NaN where the conversation is longer than the model reads."""
        wanted = list(zip(chats, texts, strict=True))
        unique = list(dict.fromkeys(wanted))
        encoded = [self.encode(chat, text) for chat, text in unique]
        order = sorted(range(len(unique)), key=lambda i: -len(encoded[i]))
        short = [i for i in order if 0 < len(encoded[i]) <= self.max_length]
        value = dict.fromkeys(range(len(unique)), math.nan)
        for start in range(0, len(short), self.batch_size):
            batch = short[start : start + self.batch_size]
            for i, v in zip(batch, self._fitting([encoded[i] for i in batch]), strict=True):
                value[i] = v
        self.too_long += len(unique) - len(short)
        number = {pair: i for i, pair in enumerate(unique)}
        return [value[number[pair]] for pair in wanted]

    def of_rows(self, rows: Rows) -> Tensor:
        """Score the rows of a search: [rows].  Raises PlumblineError for a NaN reward."""
        scores = self.score(rows.asked(), rows.texts())
        for chat, score in zip(rows.asked(), scores, strict=True):
            if math.isnan(score):
                raise PlumblineError(
                    f"reward model {self.name} gives NaN (or cannot read so long a text) for an "
                    f"answer to {chat.last_user[:60]!r}"
                )
        return torch.tensor(scores, dtype=torch.float64, device=rows.origin.device)

    def of_candidates(self, model: Model) -> CandidateRewards:
        """Give what scores partial answers: (step, candidates [rows, k]) -> [rows, k].

        [s, z] is scored as a whole answer would be: closed as the template closes one.
        Where the network allows, only new tokens are read (see ``prefixes``); with a
        tokenizer other than the policy's, the text is tokenized anew from where it differs.
        """
        if not (self._decoder and packs(self.net.config)):
            return Whole(self)
        if same_tokens(self.tokenizer, model.tokenizer):
            return SameTokens(self, model)
        return OtherTokens(self)

    def of_growing(self, model: Model) -> Callable[[Rows], Tensor]:
        """Give what scores rows that grow between two looks: rows -> [rows] float64.

        As ``of_rows``, but where the network and the tokenizer allow, only what is new is read.
        """
        if not (self._decoder and packs(self.net.config)):
            return self.of_rows
        return (
            Growing(self, model) if same_tokens(self.tokenizer, model.tokenizer) else self.of_rows
        )

    def read(self, states: Tensor) -> Tensor:
        """Give the scores at states [..., width] of a decoder: [...] float32."""
        scores: Tensor = self.net.score(states).float().squeeze(-1)
        return scores

    def _fitting(self, batch: Sequence[list[int]]) -> list[float]:
        """Score a batch; where memory runs out, its halves."""
        try:
            return self._forward(batch)
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not out_of_memory(error):
                raise
        half = len(batch) // 2
        return [v for part in (batch[:half], batch[half:]) for v in self._fitting(part)]

    @torch.no_grad()
    def _forward(self, batch: Sequence[list[int]]) -> list[float]:
        longest = max(len(ids) for ids in batch)
        ids = torch.full((len(batch), longest), self._padding(batch), dtype=torch.long)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, tokens in enumerate(batch):  # padded on the right: read at the last real token
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        self.ledger.count(self.role, int(mask.sum()))
        out = self.net(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
        scores: list[float] = out.logits.float().squeeze(-1).cpu().tolist()
        return scores

    def facts(self) -> dict[str, Json]:
        """Give what a record needs to say about the model."""
        return {
            "name": self.name,
            "architecture": type(self.net).__name__,
            "template": self.template.name,
            "pooling": "last real token" if self._decoder else "the architecture's own",
            "padding": "right",
            "max_length": self.max_length,
        }

    @property
    def _decoder(self) -> bool:
        return hasattr(self.net, "score")

    def _padding(self, batch: Sequence[list[int]]) -> int:
        """Pick the batch's padding id.

        A decoder classifier reads at the last token that is not the padding id.
        Where texts end in that very id (padding = end of sequence) it would read
        one token early, so such a batch is padded with an id no text ends in.
        """
        if not self._decoder:
            return self.pad
        last = {ids[-1] for ids in batch}
        pad: int = next(i for i in (self.pad, *range(len(last) + 1)) if i not in last)
        self.net.config.pad_token_id = pad
        return pad
