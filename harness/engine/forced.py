"""Rows of given texts: what an edit sees when a text is read instead of drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.chat import Chat
from harness.engine.model import Model, left_padded
from harness.engine.rows import Rows, arange_like
from harness.engine.steering import Steering
from harness.engine.stopping import stop_strings
from harness.errors import PlumblineError


class NoDensity(PlumblineError):
    """The steering defines no density over texts."""


def forced_rows(
    model: Model,
    chats: Sequence[Chat],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    steering: Steering,
) -> Rows:
    """Make the rows of one teacher-forced batch, as decoding would have made them.

    chats    the conversations as the user put them.
    prompts  their token ids as the model sees them, prompt edits included.
    answers  token ids of the answers.
    """
    longest = max((len(a) for a in answers), default=0)
    prompt_ids, prompt_mask, _ = left_padded(prompts, model.device)
    ids = torch.zeros((len(chats), longest), dtype=torch.long, device=model.device)
    for row, answer in enumerate(answers):
        ids[row, : len(answer)] = torch.tensor(answer, dtype=torch.long, device=model.device)
    zeros = torch.zeros(len(chats), dtype=torch.long, device=model.device)
    strings = stop_strings(
        model.tokenizer, (*model.template.stop, *steering.stop), model.vocabulary
    )

    def noise(*_: object) -> Tensor:
        raise NoDensity("an edit that draws random numbers of its own has no density")

    return Rows(
        chats=chats,
        origin=arange_like(zeros),
        slot=zeros,
        ids=ids,
        stop=zeros.clone(),
        length=zeros.clone(),
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        decode_text=lambda drawn: strings.cut(model.text(drawn)).strip(),
        noise=noise,
        given=steering.prepared(chats, model.device),
    )
