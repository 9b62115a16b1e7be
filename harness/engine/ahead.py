"""Looking ahead: the policy's own states after each candidate token, in one packed pass a step.

The pass that reads the k candidates gives the states they are scored by and the logits that
follow each of them; once a token is drawn, its column of the cache and its logits are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.engine.model import Model
from harness.engine.packed import branch_mask, packs
from harness.engine.rows import Rows, Step
from harness.engine.sites import Told
from harness.engine.tilting import Lookahead
from harness.errors import PlumblineError


class Ahead:
    """One wave's lookahead.

    states  [rows, k, width] what the lm_head read in the last pass; set by a hook.
    """

    states: Tensor

    def __init__(self, model: Model, lookahead: Lookahead, told: Told) -> None:
        if not packs(model.net.config):
            raise PlumblineError(
                f"{model.name}: looking ahead needs a network whose every layer attends to all "
                "earlier tokens, under sdpa attention"
            )
        self.model = model
        self.rule = lookahead.rule.fits(model.vocabulary)
        self.value = lookahead.value
        self.told = told

    def edited(self, logits: Tensor, rows: Rows, seen: Tensor, position: Tensor) -> Tensor:
        """Read every candidate and give the logits to draw from: [rows, vocabulary].

        seen      [rows, cached] True at real columns of the cache.
        position  [rows] where the coming token lies.
        """
        log_p, found = self.rule.candidates(logits)
        k = found.shape[1]
        at = position[:, None].expand(-1, k)
        ones = torch.ones_like(found, dtype=torch.bool)
        real = ones & ~rows.finished[:, None]
        self.told.step = Step(rows, at, real, ones, ones, rows.drawn + 1)
        self.candidates, self.start = found, seen.shape[1]
        self.follows = self.model.forward(
            found,
            mask=branch_mask(seen, real[..., None]),
            positions=at,
            tokens=int(real.sum()),
            cache=rows.cache,
            keep=0,
        )
        bonus = self.value(self.states)
        return self.rule.combined(log_p, found, bonus, logits.shape[-1])

    def keep(self, rows: Rows, token: Tensor) -> None:
        """Go on from the drawn ``token`` [rows]: its column, its logits, its state."""
        chosen = (self.candidates == token[:, None]).long().argmax(1)
        row = torch.arange(len(rows), device=chosen.device)
        assert rows.cache is not None
        rows.cache.keep(self.start, (self.start + chosen)[:, None])
        rows.logits = self.follows[row, chosen]
        rows.hidden = self.states[row, chosen]
