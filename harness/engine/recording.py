"""Hidden states of given texts, by one teacher-forced pass per batch, streamed.

The pass runs through the same hooks as decoding, so a stack's right member
records the model as its left neighbours have steered it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.chat import Chat
from harness.engine.forced import forced_rows
from harness.engine.model import Model, left_padded
from harness.engine.rows import Step
from harness.engine.sites import Told, edited, recorded
from harness.engine.steering import Site, Steering
from harness.errors import PlumblineError

At = Literal["last", "mean", "draws"]


@dataclass(frozen=True)
class Recorded:
    """The states of one batch.

    texts   numbers of the texts, in the caller's order of texts.
    states  site -> [texts, ...] for "last" and "mean"; for "draws" a list of
            [tokens, ...], one per text.
    """

    texts: list[int]
    states: dict[Site, Tensor | list[Tensor]]


def record(
    model: Model,
    chats: Sequence[Chat],
    answers: Sequence[Sequence[int]],
    sites: Sequence[Site],
    at: At = "last",
    *,
    steering: Steering | None = None,
    batch_rows: int = 64,
) -> Iterator[Recorded]:
    """Yield the states at ``sites`` for each conversation followed by its answer's tokens.

    at  "last"   state of the last token: of the answer, or of the prompt where
                 the answer is empty.
        "mean"   mean over the answer's tokens; NaN where the answer is empty.
        "draws"  the states that draw the answer's tokens: the last prompt token's
                 first, the last answer token's left out.

    Raises PlumblineError for a text longer than the model's context.  Padding is
    never part of a state.
    """
    steering = steering or Steering()
    seen = steering.prompted(chats)
    encoded = [model.encode(chat) for chat in seen]
    texts = [[*ids, *answer] for ids, answer in zip(encoded, answers, strict=True)]
    for number, ids in enumerate(texts):
        if len(ids) > model.context:
            raise PlumblineError(
                f"text {number}: {len(ids)} tokens do not fit the context of {model.context}"
            )
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    for start in range(0, len(order), batch_rows):
        batch = order[start : start + batch_rows]
        with torch.no_grad(), steering.weights() if steering.weights else nullcontext():
            yield _batch(model, chats, encoded, answers, batch, sites, at, steering)


def _batch(
    model: Model,
    chats: Sequence[Chat],
    encoded: Sequence[list[int]],
    answers: Sequence[Sequence[int]],
    batch: list[int],
    sites: Sequence[Site],
    at: At,
    steering: Steering,
) -> Recorded:
    ids, mask, positions = left_padded([[*encoded[i], *answers[i]] for i in batch], model.device)
    lengths = torch.tensor([len(answers[i]) for i in batch], device=model.device)
    from_right = ids.shape[1] - 1 - torch.arange(ids.shape[1], device=model.device)
    response = (from_right[None, :] < lengths[:, None]) & mask
    draws = (from_right[None, :] <= lengths[:, None]) & (from_right[None, :] > 0) & mask
    kept: dict[Site, Tensor | list[Tensor]] = {}

    def keep(number: int, hidden: Tensor) -> None:
        kept[sites[number]] = _reduced(hidden, response, lengths, at)

    told = Told()
    mine = [chats[i] for i in batch]
    drawn = [list(answers[i]) for i in batch]
    rows = forced_rows(model, mine, [encoded[i] for i in batch], drawn, steering)
    told.step = Step(rows, positions, mask, response, draws, 0)
    with edited(model.net, steering.hidden, told), recorded(model.net, sites, keep):
        model.forward(
            ids,
            mask=None if bool(mask.all()) else mask.long(),
            positions=positions,
            tokens=int(mask.sum()),
        )
    return Recorded(batch, kept)


def _reduced(hidden: Tensor, response: Tensor, lengths: Tensor, at: At) -> Tensor | list[Tensor]:
    if at == "last":
        return hidden[:, -1].clone()
    if at == "draws":
        end = hidden.shape[1] - 1
        return [hidden[i, end - n : end].clone() for i, n in enumerate(lengths.tolist())]
    weight = response.view(*response.shape, *(1,) * (hidden.dim() - 2)).to(hidden.dtype)
    total = torch.where(weight > 0, hidden, torch.zeros_like(hidden)).sum(1)
    return total / weight.sum(1)
