"""A second network that reads along while the policy writes.

It keeps one cached prefix a row, in ``Rows.carry``, and reads only what is new: the
candidates of a step in one packed pass (see ``packed``), of which the drawn one stays.  It
reads the user's words, never a method's additions to the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.chat import Chat
from harness.engine.model import left_padded
from harness.engine.packed import Packed
from harness.engine.rows import Rows, Step


@dataclass(frozen=True)
class Companion:
    """A causal network with the policy's tokenizer, beside the policy.

    body    gives ``last_hidden_state``.
    opened  conversation -> the ids it reads before the answer.
    count   told how many tokens each pass reads.
    suffix  ids that close an answer; read after each candidate, never kept.
    ends    tokens that end an answer: in their place the suffix is read, as after a whole
            answer (without a suffix: nothing).
    """

    body: Any
    opened: Callable[[Chat], Sequence[int]]
    count: Callable[[int], None]
    suffix: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def state(self, step: Step) -> Tensor:
        """Give the state after all that has been drawn, [rows, width]."""
        return self._followed(step.rows).last

    def states(self, step: Step, candidates: Tensor) -> Tensor:
        """Give the state after each candidate and the suffix: [rows, k, width].

        candidates  [rows, k] tokens; or [rows, k, m] continuations, -1 behind a shorter one.
        """
        said = candidates if candidates.dim() == 3 else candidates[..., None]
        ended = torch.isin(said, said.new_tensor(self.ends)) | (said < 0)
        n = (ended.cumsum(-1) == 0).sum(-1, keepdim=True)  # tokens before an end
        suffix = said.new_tensor(self.suffix).expand(*n.shape[:2], -1)
        ids = torch.cat([said.clamp(min=0), torch.zeros_like(suffix)], dim=-1)
        ids = ids.scatter(-1, n + torch.arange(suffix.shape[-1], device=n.device), suffix)
        size = n + suffix.shape[-1]
        real = torch.arange(ids.shape[-1], device=n.device) < size
        found = self._looked(step, ids, real & step.real[:, -1:, None])
        last = found.gather(2, (size[..., None] - 1).clamp(min=0).expand(*n.shape, found.shape[-1]))
        return torch.where(size > 0, last.squeeze(2), self.state(step)[:, None].to(found))

    def along(self, step: Step, said: Tensor) -> Tensor:
        """Give the state after every token of continuations [rows, k, m], -1 behind a shorter one.

        Gives [rows, k, m, width]; void where there is no token.
        """
        return self._looked(step, said.clamp(min=0), (said >= 0) & step.real[:, -1:, None])

    def onwards(self, step: Step, tokens: Tensor) -> Tensor:
        """Read on along the continuations just looked at: [rows, k], -1 for none, -> states."""
        real = (tokens >= 0) & step.real[:, -1:]
        packed = self._followed(step.rows).packed
        return packed.extend(tokens.clamp(min=0)[..., None], real[..., None])[:, :, 0]

    def _looked(self, step: Step, ids: Tensor, real: Tensor) -> Tensor:
        reading = self._followed(step.rows)
        found = reading.packed.branch(ids, real)
        looked = replace(reading, looked=ids[..., 0], found=found[:, :, 0])
        step.rows.carry[self._key] = looked
        return found

    @property
    def _key(self) -> str:
        return f"companion {id(self):x}"

    def _followed(self, rows: Rows) -> _Reading:
        reading = rows.carry.get(self._key)
        if not isinstance(reading, _Reading):
            reading = self._opened(rows)
        if reading.drawn < rows.drawn:
            reading = reading.followed(rows)
        rows.carry[self._key] = reading
        return reading

    def _opened(self, rows: Rows) -> _Reading:
        """Read each prompt once, however many candidates answer it."""
        prompts, place = rows.origin.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        packed = Packed(self.body, self.count, len(prompts))
        texts = [self.opened(rows.chats[i]) for i in prompts.tolist()]
        ids, real, _ = left_padded(texts, packed.device)
        last = packed.feed(ids, real)[:, -1]
        return _Reading(packed, last, 0).select(place)


@dataclass(frozen=True)
class _Reading:
    """Where a companion is with each row.

    last    [rows, width] state after the last token read.
    drawn   tokens of the answers read so far.
    looked  [rows, k] the candidates last looked at; found: the states after them.
    """

    packed: Packed
    last: Tensor
    drawn: int
    looked: Tensor | None = None
    found: Tensor | None = None

    def select(self, index: Tensor) -> _Reading:
        """Keep the rows named by ``index``."""

        def pick(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.index_select(0, index)

        return replace(
            self,
            packed=self.packed.select(index),
            last=self.last.index_select(0, index),
            looked=pick(self.looked),
            found=pick(self.found),
        )

    def followed(self, rows: Rows) -> _Reading:
        """Read what has been drawn since; a candidate that was looked at is kept, not read."""
        token = rows.ids[:, rows.drawn - 1 : rows.drawn]
        if self.looked is not None and self.found is not None and rows.drawn == self.drawn + 1:
            hit = self.looked == token
            if bool((hit.any(1) | rows.finished).all()):
                chosen = hit.long().argmax(1)
                self.packed.keep(chosen)
                last = self.found[torch.arange(len(chosen), device=chosen.device), chosen]
                return _Reading(self.packed, last, rows.drawn)
        fresh = rows.ids[:, self.drawn : rows.drawn]
        states = self.packed.feed(fresh, (~rows.finished)[:, None].expand_as(fresh))
        return _Reading(self.packed, states[:, -1], rows.drawn)
