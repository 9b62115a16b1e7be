"""Where AlignEZ looks, and the states it finds there: phi_l(text), at the text's last token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.api import Chat, Kit, PlumblineError, Site, Steering
from methods._alignez_pairs import Pairs

Where = Literal["mlp_out", "resid_post"]
At = Literal["last", "mean"]


def layer_count(kit: Kit) -> int:
    """Give how many blocks the policy has."""
    return int(kit.model.net.config.get_text_config(decoder=True).num_hidden_layers)


def place(where: Where, layer: int) -> Site:
    """Name a layer's site: output of its feed-forward part, or the residual stream after it."""
    return Site.mlp(layer) if where == "mlp_out" else Site.layer(layer)


def states(
    kit: Kit,
    chats: Sequence[Chat],
    answers: Sequence[Sequence[int]],
    sites: Sequence[Site],
    at: At = "last",
    *,
    steering: Steering | None = None,
) -> Tensor:
    """Give phi of each text at each site, float32 on the CPU: [sites, texts, width].

    An answer without tokens gives the state of the prompt's last token.
    """
    found: list[Tensor] = []
    order: list[int] = []
    for batch in kit.record(chats, answers, sites, at, steering=steering):
        rows = [batch.states[site] for site in sites]
        found.append(torch.stack([_tensor(row).float().cpu() for row in rows]))
        order += batch.texts
    whole = torch.cat(found, dim=1)
    return whole.index_select(1, torch.tensor(order).argsort())


def _tensor(row: Tensor | list[Tensor]) -> Tensor:
    assert isinstance(row, Tensor)  # "draws" alone gives lists
    return row


@dataclass(frozen=True)
class Measured:
    """States of self-generated pairs and of their queries, each [layers, pairs, width]."""

    good: Tensor
    bad: Tensor
    query: Tensor

    @classmethod
    def of(cls, kit: Kit, pairs: Pairs, sites: Sequence[Site], at: At) -> Measured:
        """Measure the pairs without the instructions they were written under.

        Raises PlumblineError for states that are not finite, and where every pair's
        two states are the same at every layer.
        """
        good = states(kit, pairs.chats, pairs.good, sites, at)
        bad = states(kit, pairs.chats, pairs.bad, sites, at)
        if not bool(torch.isfinite(good).all() and torch.isfinite(bad).all()):
            raise PlumblineError("alignez: a state of a self-generated answer is NaN or infinite")
        if bool((good == bad).all()):
            raise PlumblineError(
                "alignez: the two answers of every pair have the same state at every layer, so "
                "there is no direction between them"
            )
        return cls(good, bad, states(kit, pairs.chats, [()] * len(pairs.chats), sites))

    @property
    def cosines(self) -> list[float]:
        """Mean cosine between the two states of a pair, per layer: near 1 they say the same."""
        cosine = torch.cosine_similarity(self.good.double(), self.bad.double(), dim=-1)
        return [round(value, 4) for value in cosine.mean(1).tolist()]


def relative_size(change: Tensor, states: Tensor) -> list[float]:
    """Give mean |change| / |state| per layer over the rows that change: [layers, rows, width]."""
    sizes, lengths = change.norm(dim=-1), states.norm(dim=-1).clamp_min(1e-12)
    moved = (sizes > 0).sum(-1).clamp_min(1)
    return [round(value, 4) for value in ((sizes / lengths).sum(-1) / moved).tolist()]
