"""Several continuations of a text in one row: one cache, one pass, a mask that keeps them apart.

The usual scheme copies a row's cache for each of its k candidates.  Here the candidates are
appended to the row itself: every one of them takes the position after the text, and a 4-D
mask shows it the text and itself only.  The chosen one's columns are then kept in the cache
and the others' dropped, so memory is k times smaller and the text goes on from there.

    columns   text ... | z1 e1 | z2 e2 | z3 e3        k = 3 branches of m = 2 tokens
    position  0 ... L-1 | L L+1 | L L+1 | L L+1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.engine.cache import GrowingCache, new_cache, uniform


def packs(config: Any) -> bool:
    """Say whether a network can be shown masks of this kind."""
    return uniform(config) and config._attn_implementation == "sdpa"


def branch_mask(seen: Tensor, real: Tensor) -> Tensor:
    """Show each branch's tokens the text and the branch's own tokens up to themselves.

    seen  [rows, columns] True at the text's real columns.
    real  [rows, k, m] False at padding behind a branch shorter than m.

    Gives [rows, 1, k m, columns + k m]; a token always sees itself, so no row is empty.
    """
    rows, k, m = real.shape
    tokens = torch.arange(k * m, device=seen.device)
    same = tokens[:, None] // m == tokens[None, :] // m
    own = same & (tokens[:, None] >= tokens[None, :])
    others = own & real.reshape(rows, 1, k * m) | torch.eye(
        k * m, dtype=torch.bool, device=seen.device
    )
    text = seen[:, None, :].expand(-1, k * m, -1)
    return torch.cat([text, others], dim=-1)[:, None]


class Packed:
    """A causal network that reads growing texts, one a row, and looks at their continuations.

    body    gives ``last_hidden_state``.
    count   told how many real tokens each pass reads.
    seen    [rows, columns] which columns of the cache belong to the row's text.
    length  [rows] tokens of the text read so far.
    """

    def __init__(self, body: Any, count: Callable[[int], None], rows: int) -> None:
        self.body = body
        self.count = count
        device = next(body.parameters()).device
        self.cache: GrowingCache = new_cache(body.config)
        self.seen = torch.zeros((rows, 0), dtype=torch.bool, device=device)
        self.at = torch.zeros((rows, 0), dtype=torch.long, device=device)
        self.length = torch.zeros(rows, dtype=torch.long, device=device)
        self.branches = (0, 0)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.length.device

    def feed(self, ids: Tensor, real: Tensor) -> Tensor:
        """Read on: ids [rows, n], real False at padding.  Gives states [rows, n, width]."""
        self.drop()
        n = ids.shape[1]
        at = (self.length[:, None] + real.long().cumsum(1) - 1).clamp_(min=0)
        eye = torch.eye(n, dtype=torch.bool, device=self.device)
        among = eye.cumsum(0).bool() & real[:, None, :] | eye  # no padding sees nothing: no NaN
        text = self.seen[:, None, :].expand(-1, n, -1)
        states = self._pass(ids, at, torch.cat([text, among], dim=-1)[:, None], real)
        self.seen = torch.cat([self.seen, real], dim=1)
        self.at = torch.cat([self.at, at], dim=1)
        self.length = self.length + real.sum(1)
        return states

    def branch(self, ids: Tensor, real: Tensor) -> Tensor:
        """Look at k continuations of m tokens: ids, real [rows, k, m], padding behind.

        Gives states [rows, k, m, width].  They wait for ``extend``, ``keep`` or ``drop``.
        """
        self.drop()
        rows, k, m = ids.shape
        ahead = torch.arange(m, device=self.device).repeat(k)
        at = self.length[:, None] + ahead
        states = self._pass(ids.flatten(1), at, branch_mask(self.seen, real), real)
        self.branches = (k, m)
        owner = torch.arange(k, device=self.device).repeat_interleave(m)
        self.held = (owner, real.flatten(1))  # of each column: its branch, and whether it is real
        self.tails = real.sum(-1)
        return states.view(rows, k, m, -1)

    def extend(self, ids: Tensor, real: Tensor) -> Tensor:
        """Look further along the branches, n tokens each: ids, real [rows, k, n], padding behind.

        Gives states [rows, k, n, width].
        """
        rows, k, n = ids.shape
        at = (self.length[:, None] + self.tails)[..., None] + torch.arange(n, device=self.device)
        owner, grown = self.held
        mine = torch.arange(k, device=self.device).repeat_interleave(n)
        earlier = (mine[:, None] == owner) & grown[:, None, :]
        allowed = branch_mask(self.seen, real)
        columns = self.seen.shape[1]
        parts = [allowed[..., :columns], earlier[:, None], allowed[..., columns:]]
        states = self._pass(ids.flatten(1), at.flatten(1), torch.cat(parts, dim=-1), real)
        self.held = (torch.cat([owner, mine]), torch.cat([grown, real.flatten(1)], dim=1))
        self.tails = self.tails + real.sum(-1)
        return states.view(rows, k, n, -1)

    def keep(self, chosen: Tensor) -> None:
        """Make the first token of branch ``chosen`` [rows] part of the text; drop the others."""
        _, m = self.branches
        start = self.seen.shape[1]
        self.cache.keep(start, (start + chosen * m)[:, None])
        self.seen = torch.cat([self.seen, torch.ones_like(self.seen[:, :1])], 1)
        self.at = torch.cat([self.at, self.length[:, None]], 1)
        self.length = self.length + 1
        self.branches = (0, 0)

    def drop(self) -> None:
        """Forget the branches looked at."""
        if self.branches != (0, 0):
            self.cache.crop(self.seen.shape[1])
            self.branches = (0, 0)

    def back_to(self, length: Tensor) -> None:
        """Forget each row's tokens from ``length`` [rows] on."""
        self.drop()
        self.seen = self.seen & (self.at < length[:, None])
        used = self.seen.any(0).nonzero()
        columns = int(used.max()) + 1 if len(used) else 0
        self.cache.crop(columns)
        self.seen, self.at = self.seen[:, :columns], self.at[:, :columns]
        self.length = length

    def select(self, index: Tensor) -> Packed:
        """Keep the rows named by ``index``, repeats allowed."""
        self.cache.batch_select_indices(index)
        self.seen = self.seen.index_select(0, index)
        self.at = self.at.index_select(0, index)
        self.length = self.length.index_select(0, index)
        return self

    def _pass(self, ids: Tensor, at: Tensor, allowed: Tensor, real: Tensor) -> Tensor:
        self.count(int(real.sum()))
        out = self.body(
            input_ids=ids,
            attention_mask=allowed,
            position_ids=at,
            past_key_values=self.cache,
            use_cache=True,
        )
        states: Tensor = out.last_hidden_state
        return states
