"""Everything row-aligned, and the one function that moves it.

A row is one candidate answer to one prompt.  Forking is ``select`` with
repeats, pruning is ``select`` with survivors; there is no second way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from harness.chat import Chat
from harness.records import Stop

if TYPE_CHECKING:
    from harness.engine.cache import GrowingCache


STOPS: tuple[Stop, ...] = ("running", "eos", "string", "length")  # by code, in Rows.stop


class Carried(Protocol):
    """A method's own row-aligned extra, such as a reward model's cache."""

    def select(self, index: Tensor) -> Carried:
        """Give the same thing for the rows named by ``index``."""
        ...


@dataclass
class Rows:
    """State of the rows in flight.

    chats      one per prompt: the user's words, without a method's prompt edits.
    origin     [rows] which prompt a row answers.
    slot       [rows] which of that prompt's candidates it is; with the position
               it names the row's luck, so a fork gets fresh noise, not a copy.
    ids        [rows, capacity] tokens drawn so far (`drawn` of them), 0 beyond.
    drawn      tokens drawn so far; rows of one wave are equally old, but see
    ages       [rows] tokens drawn by each row, where a search draws parts of an answer
               again (``segments``); ``drawn`` is then the most of them.
    length     [rows] tokens of the answer, once finished; 0 until then.
    stop       [rows] why the row has ended, an index into STOPS; 0 while it runs.
    prompt_ids, prompt_mask   [prompts, width] left-padded; mask False at padding.
    hidden     [rows, width] the lm_head's input for the draw at hand, if recorded; a
               search's score, which comes after a draw, meets that draw's.
    given      name -> [prompts, ...] tensors made by ``Steering.prepare``.
    carry      name -> a method's own extras, each with ``select``.
    """

    chats: Sequence[Chat]
    origin: Tensor
    slot: Tensor
    ids: Tensor
    stop: Tensor
    length: Tensor
    prompt_ids: Tensor
    prompt_mask: Tensor
    decode_text: Callable[[Sequence[int]], str]
    noise: Callable[[str, Tensor, Tensor, int | Tensor], Tensor]
    drawn: int = 0
    ages: Tensor | None = None
    cache: GrowingCache | None = None
    logits: Tensor | None = None
    hidden: Tensor | None = None
    given: Mapping[str, Tensor] = field(default_factory=dict)
    carry: dict[str, Carried] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.origin.shape[0])

    @property
    def finished(self) -> Tensor:
        """[rows] True where the answer has ended."""
        return self.stop > 0

    @property
    def age(self) -> int | Tensor:
        """Tokens drawn so far: one number, or [rows] of them."""
        return self.drawn if self.ages is None else self.ages

    def put(self, token: Tensor) -> None:
        """Add a drawn token [rows] to the rows that run."""
        token = torch.where(self.finished, 0, token)
        if self.ages is None:
            self.ids[:, self.drawn] = token
            self.drawn += 1
            return
        self.ids.scatter_(1, self.ages[:, None], token[:, None])
        self.ages = self.ages + 1
        self.drawn = int(self.ages.max())

    def latest(self) -> Tensor:
        """Give each row's last token: [rows, 1]."""
        if self.ages is None:
            return self.ids[:, self.drawn - 1 : self.drawn]
        return self.ids.gather(1, self.ages[:, None] - 1)

    def select(self, index: Tensor, slot: Tensor | None = None) -> Rows:
        """Keep the rows named by ``index`` ([n], repeats allowed), in that order.

        ``slot`` gives the candidates' new numbers after a fork.
        """
        if self.cache is not None:
            self.cache.batch_select_indices(index)

        def pick(x: Tensor | None) -> Any:
            return None if x is None else x.index_select(0, index)

        return Rows(
            chats=self.chats,
            origin=pick(self.origin),
            slot=pick(self.slot) if slot is None else slot,
            ids=pick(self.ids),
            stop=pick(self.stop),
            length=pick(self.length),
            prompt_ids=self.prompt_ids,
            prompt_mask=self.prompt_mask,
            decode_text=self.decode_text,
            noise=self.noise,
            drawn=self.drawn,
            ages=pick(self.ages),
            cache=self.cache,
            logits=pick(self.logits),
            hidden=pick(self.hidden),
            given=self.given,
            carry={name: extra.select(index) for name, extra in self.carry.items()},
        )

    def bare(self) -> Rows:
        """Give the same rows without what only a row in flight needs (cache, logits, carry)."""
        return replace(self, cache=None, logits=None, carry={})

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """Join bare rows of one wave; finished ones may be younger than the rest."""
        first = parts[0]
        if len(parts) == 1:
            return first.bare()

        def cat(name: str) -> Any:
            tensors = [getattr(p, name) for p in parts]
            return None if any(t is None for t in tensors) else torch.cat(tensors)

        aligned = ("origin", "slot", "ids", "stop", "length", "hidden", "ages")
        return replace(
            first.bare(),
            drawn=max(p.drawn for p in parts),
            **{name: cat(name) for name in aligned},
        )

    def of_prompt(self, name: str) -> Tensor:
        """Gather a per-prompt tensor from ``prepare`` to the rows: [rows, ...]."""
        return self.given[name].index_select(0, self.origin)

    def uniform(self, stream: str) -> Tensor:
        """Draw a method's own uniforms for this position, [rows], float64 in [0, 1).

        Keyed by (seed, prompt, turn, candidate, stream), so batch size, order and
        sharding do not change them.
        """
        return self.noise(stream, self.origin, self.slot, self.age)

    def tokens(self) -> list[list[int]]:
        """Give each row's drawn tokens."""
        return [ids[:n] for ids, n in zip(self.ids.tolist(), self.lengths(), strict=True)]

    def lengths(self) -> list[int]:
        """Give how many tokens each row has drawn."""
        return torch.where(self.finished, self.length, self.age).tolist()

    def texts(self) -> list[str]:
        """Give each row's answer so far, cut at a stop string, special tokens left out."""
        return [self.decode_text(ids) for ids in self.tokens()]

    def asked(self) -> list[Chat]:
        """Give each row's conversation: the user's words, never a method's additions."""
        return [self.chats[i] for i in self.origin.tolist()]


@dataclass(frozen=True)
class Step:
    """What an edit may know about the pass it sees; told by the loop, never guessed.

    positions  [rows, positions] position ids of this pass.
    real       [rows, positions] False at padding and at finished rows.
    response   [rows, positions] True where the token was drawn, not given.
    draws      [rows, positions] True where the output draws (or scores) a token.
    index      tokens drawn so far by the rows of this pass.
    """

    rows: Rows
    positions: Tensor
    real: Tensor
    response: Tensor
    draws: Tensor
    index: int

    @property
    def is_prompt(self) -> bool:
        """True while the prompt is read."""
        return self.index == 0 and not bool(self.response.any())


def arange_like(x: Tensor) -> Tensor:
    """Give 0, 1, ... along the first axis of ``x``, on its device."""
    return torch.arange(x.shape[0], device=x.device)


def numbered(origin: Tensor) -> Tensor:
    """Number the rows of each prompt 0, 1, ... in order."""
    seen: dict[int, int] = {}
    slots = []
    for prompt in origin.tolist():
        slots.append(seen.get(prompt, 0))
        seen[prompt] = slots[-1] + 1
    return torch.tensor(slots, dtype=torch.long, device=origin.device)


def repeated(index: Tensor) -> bool:
    """Say whether an index names a row twice."""
    return len(set(index.tolist())) < len(index)
