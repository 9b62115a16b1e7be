"""Answers written in advance, spoken through the ordinary loop: shared by the control rows.

A control is decoded, stopped, counted and scored like every method; only the
distribution it draws from has a single word at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.api import Chat, Kit, PlumblineError, Steering, Step

_NAME = "forced"


def end_token(kit: Kit) -> int:
    """Give the id that ends an answer; raises PlumblineError for a model without one."""
    if not kit.model.ends:
        raise PlumblineError(f"{kit.model.name} has no end token, so an answer cannot be forced")
    return kit.model.ends[0]


def token_ids(kit: Kit, text: str) -> list[int]:
    """Encode a text as it would stand inside an answer."""
    ids: list[int] = kit.model.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def only(logits: Tensor, tokens: Tensor) -> Tensor:
    """Leave one possible token a row.  logits [rows, vocabulary], tokens [rows]."""
    forced = torch.full_like(logits, float("-inf"))
    return forced.scatter(-1, tokens.unsqueeze(-1), 0.0)


def says(kit: Kit, answer: Callable[[Chat], str]) -> Steering:
    """Make the steering under which each prompt is answered by ``answer(chat)``."""
    end = end_token(kit)

    def prepare(chats: Sequence[Chat]) -> dict[str, Tensor]:
        texts = [[*token_ids(kit, answer(chat)), end] for chat in chats]
        longest = max(map(len, texts))
        padded = [ids + [end] * (longest - len(ids)) for ids in texts]
        return {_NAME: torch.tensor(padded, device=kit.model.device)}

    def logits(scores: Tensor, step: Step) -> Tensor:
        forced = step.rows.of_prompt(_NAME)
        return only(scores, forced[:, min(step.index, forced.shape[1] - 1)])

    return Steering(prepare=(prepare,), logits=(logits,))
