"""Greedy rollouts of every candidate token, k to a row, by a causal LM that reads along.

The reader keeps one cached text a row.  The k candidates and what follows each of them are
branches of that row, one pass a token for all of them; of the drawn candidate the first column
stays.  Nothing is drawn by chance, so neither batch size nor order changes a rollout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.engine.companion import Companion
from harness.engine.model import Model
from harness.engine.rows import Rows, Step
from harness.engine.stopping import StopStrings, ended, stop_strings


@dataclass(frozen=True)
class Rollouts:
    """Continues each candidate by ``tokens`` more, until an answer would end.

    reader  the LM's body, reading along; head: states [..., width] -> logits.
    policy  says which tokens and strings end an answer.
    budget  tokens of an answer; a rollout goes no further.
    """

    reader: Companion
    head: Callable[[Tensor], Tensor]
    policy: Model
    tokens: int
    budget: int

    def __call__(self, step: Step, candidates: Tensor) -> Tensor:
        """Continue candidates [rows, k]: [rows, k, 1 + n], -1 behind a shorter one."""
        more = min(self.tokens, self.budget - step.index - 1)
        said = candidates[..., None]
        live = step.real[:, -1:] & ~self._over(step.rows, said)
        states = self.reader.states(step, candidates) if more > 0 else None
        for left in range(more, 0, -1):
            if states is None or not bool(live.any()):
                break
            logits = self.head(states)[..., : self.policy.vocabulary]
            token = torch.where(live, logits.argmax(-1).to(said.device), -1)
            said = torch.cat([said, token[..., None]], dim=-1)
            live = live & ~self._over(step.rows, said)
            # The last token is not read: nothing follows it.
            onwards = left > 1 and bool(live.any())
            states = self.reader.onwards(step, torch.where(live, token, -1)) if onwards else None
        return said

    def _over(self, rows: Rows, said: Tensor) -> Tensor:
        """Say which continuations [rows, k, n] end the answer with their last token: [rows, k]."""
        ends = torch.tensor(self.policy.ends, device=said.device)
        over = ended(said[..., -1], ends)
        strings = self._strings
        if strings.strings:
            before = rows.ids[:, None, : rows.drawn].expand(*said.shape[:2], -1)
            texts = torch.cat([before, said.clamp(min=0)], dim=-1).flatten(0, 1)
            over = over | strings.hit(texts, texts.shape[1]).view(over.shape).to(over.device)
        return over

    @property
    def _strings(self) -> StopStrings:
        policy = self.policy
        return stop_strings(policy.tokenizer, policy.template.stop, policy.vocabulary)
