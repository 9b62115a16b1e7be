"""What a run may touch: prompt, weights, per-prompt tensors, hidden states, logits, choice.

A ``Steering`` is a value.  ``a + b`` applies a's edits first; two weight changes
or two searches have no order that makes sense, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from harness.chat import Chat
from harness.engine.rows import Rows, Step
from harness.engine.segments import Segments
from harness.engine.tilting import Lookahead
from harness.errors import PlumblineError

Place = Literal["layer", "mlp", "attention", "heads", "final", "module"]
Edit = Callable[[Tensor, Step], Tensor]


@dataclass(frozen=True)
class Site:
    """A place in the network, named independently of the architecture.

    layer      residual stream after block ``index``            [rows, positions, width]
    mlp        output of the feed-forward part                   [rows, positions, width]
    attention  output of the attention part                      [rows, positions, width]
    heads      input of attention's output projection   [rows, positions, heads, width]
    final      output of the final norm, the lm_head's input     [rows, positions, width]
    module     output of the module at ``path``, for an architecture unknown here
    """

    place: Place
    index: int = -1
    path: str = ""

    @classmethod
    def layer(cls, index: int) -> Site:
        """Residual stream after a block, counted from 0; negative counts from the end."""
        return cls("layer", index)

    @classmethod
    def mlp(cls, index: int) -> Site:
        """Output of a block's feed-forward part."""
        return cls("mlp", index)

    @classmethod
    def attention(cls, index: int) -> Site:
        """Output of a block's attention part."""
        return cls("attention", index)

    @classmethod
    def heads(cls, index: int) -> Site:
        """Per-head input of a block's attention output projection."""
        return cls("heads", index)

    @classmethod
    def final(cls) -> Site:
        """Output of the final norm."""
        return cls("final")

    @classmethod
    def module(cls, path: str) -> Site:
        """Output of any module, by its path in the model."""
        return cls("module", path=path)

    def __str__(self) -> str:
        if self.place == "module":
            return f"module {self.path}"
        return self.place if self.place == "final" else f"{self.place} {self.index}"


@dataclass(frozen=True)
class HiddenEdit:
    """An edit at a site: ``edit(hidden, step)`` -> same shape.

    Wrap with ``at_last`` or ``after_prompt`` to say at which positions.
    """

    site: Site
    edit: Edit


@dataclass(frozen=True)
class Search:
    """Candidates per prompt, and how the loop chooses among them.

    width   candidates per prompt.
    score   rows -> [rows]; higher is better; -inf is allowed, NaN is refused.
    blocks  tokens between selections; a sequence gives checkpoints (tokens drawn
            at which to select); None selects once, among whole responses: best-of-N.
    select  (scores, rows) -> [n] indices of the rows that go on, repeats being
            forks; by default the best of each prompt, forked back to ``width``.
    choose  (scores, rows) -> [prompts] indices of the answers; by default the best.
    reads   True: a token is read before candidates are scored, so that ``rows.hidden`` is the
            state after a candidate's last token, not the one that drew it.
    segments  one candidate, grown by segments that are accepted by their score or drawn again.
    """

    width: int
    score: Callable[[Rows], Tensor]
    blocks: int | Sequence[int] | None = None
    select: Callable[[Tensor, Rows], Tensor] | None = None
    choose: Callable[[Tensor, Rows], Tensor] | None = None
    reads: bool = False
    forks: bool = True
    segments: Segments | None = None

    def __post_init__(self) -> None:
        if self.width < 1:
            raise PlumblineError(f"search width is {self.width}; it must be at least 1")
        marks = (self.blocks,) if isinstance(self.blocks, int) else (self.blocks or ())
        if any(b < 1 for b in marks):
            raise PlumblineError(f"search blocks are {self.blocks}; each must be at least 1 token")
        if self.segments and (self.width > 1 or self.blocks or not self.reads):
            raise PlumblineError(
                "a search by segments has width 1, no blocks, and reads its tokens"
            )

    @property
    def chooses(self) -> bool:
        """Say whether there is more than one thing to choose from."""
        return self.width > 1 or self.segments is not None

    def selects_at(self, drawn: int) -> bool:
        """Say whether a selection is due after ``drawn`` tokens."""
        if self.blocks is None:
            return False
        if isinstance(self.blocks, int):
            return drawn % self.blocks == 0
        return drawn in self.blocks


@dataclass(frozen=True)
class Steering:
    """What to touch while decoding.  Every part is optional; an empty one is the base model.

    prompt   a batch of conversations -> the batch the model is to see.
    weights  enters a change of the model's weights (adapters), leaves it undone.
    prepare  conversations (as the user put them) -> name -> [prompts, ...] tensors.
    hidden   edits of hidden states.
    logits   ([rows, vocabulary], step) -> same shape, before temperature and filters.
    search   how candidates are chosen.
    stop     further strings at which an answer ends.
    noise    name of another stream of luck than the seed's own.
    lookahead  candidate tokens scored by the states they lead to, after the logits edits.
    """

    prompt: tuple[Callable[[Sequence[Chat]], Sequence[Chat]], ...] = ()
    weights: Callable[[], AbstractContextManager[object]] | None = None
    prepare: tuple[Callable[[Sequence[Chat]], Mapping[str, Tensor]], ...] = ()
    hidden: tuple[HiddenEdit, ...] = ()
    logits: tuple[Edit, ...] = ()
    search: Search | None = None
    stop: tuple[str, ...] = ()
    noise: str = ""
    lookahead: Lookahead | None = None

    def __post_init__(self) -> None:
        if self.search and self.search.segments and (self.logits or self.lookahead):
            raise PlumblineError(
                "a search that draws segments again goes with edits of prompts, weights and hidden "
                "states; an edit of the logits follows rows of one age"
            )

    def __add__(self, other: Steering) -> Steering:
        if self.weights is not None and other.weights is not None:
            raise PlumblineError(
                "two methods in the stack change the weights; a stack may hold one at most"
            )
        if self.search is not None and other.search is not None:
            raise PlumblineError(
                "two methods in the stack search among candidates; a stack may hold one at most"
            )
        if self.lookahead is not None and other.lookahead is not None:
            raise PlumblineError(
                "two methods in the stack look ahead at candidate tokens; a stack may hold one "
                "at most"
            )
        return Steering(
            prompt=self.prompt + other.prompt,
            weights=self.weights or other.weights,
            prepare=self.prepare + other.prepare,
            hidden=self.hidden + other.hidden,
            logits=self.logits + other.logits,
            lookahead=self.lookahead or other.lookahead,
            search=self.search or other.search,
            stop=self.stop + other.stop,
            noise="+".join(n for n in (self.noise, other.noise) if n),
        )

    @property
    def touches(self) -> frozenset[str]:
        """Name the parts that are set; derived, so it cannot go stale."""
        parts = ("prompt", "weights", "prepare", "hidden", "logits", "lookahead", "search",
                 "stop", "noise")  # fmt: skip
        return frozenset(p for p in parts if getattr(self, p))

    def without_search(self) -> Steering:
        """Give the same steering, sampling one candidate."""
        return replace(self, search=None)

    def prompted(self, chats: Sequence[Chat]) -> Sequence[Chat]:
        """Apply the prompt edits, left to right."""
        for change in self.prompt:
            changed = change(chats)
            if len(changed) != len(chats):
                raise PlumblineError(
                    f"a prompt edit made {len(changed)} conversations of {len(chats)}; "
                    "it must give one for each"
                )
            chats = changed
        return chats

    def edited_logits(self, logits: Tensor, step: Step) -> Tensor:
        """Apply the logits edits, left to right; refuses a changed shape."""
        for edit in self.logits:
            out = edit(logits, step)
            if out.shape != logits.shape:
                raise PlumblineError(
                    f"a logits edit returned shape {tuple(out.shape)}; "
                    f"it must keep {tuple(logits.shape)}"
                )
            logits = out
        return logits

    def prepared(
        self, chats: Sequence[Chat], device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Run every ``prepare``, its tensors on ``device``; refuses two tensors of one name."""
        out: dict[str, Tensor] = {}
        for make in self.prepare:
            for name, tensor in make(chats).items():
                if name in out:
                    raise PlumblineError(
                        f"two methods in the stack prepare a tensor named {name!r}; "
                        "names must differ"
                    )
                if tensor.shape[:1] != (len(chats),):
                    raise PlumblineError(
                        f"prepare made {name!r} of shape {tuple(tensor.shape)}; "
                        f"its first axis must be the number of prompts, {len(chats)}"
                    )
                out[name] = tensor.to(device)
        return out


def at_last(edit: Edit) -> Edit:
    """Restrict an edit to the positions whose output draws a token.

    While decoding that is the last position of every pass; under teacher forcing
    it is every position that scores a response token, so both agree.
    """

    def restricted(hidden: Tensor, step: Step) -> Tensor:
        where = step.draws & step.real
        if hidden.shape[1] > 1 and bool(where[:, -1].all()) and not bool(where[:, :-1].any()):
            last = edit(hidden[:, -1:], _last(step))
            return torch.cat([hidden[:, :-1], last], dim=1)
        return _where(where, edit(hidden, step), hidden)

    return restricted


def after_prompt(edit: Edit) -> Edit:
    """Restrict an edit to the tokens of the response."""

    def restricted(hidden: Tensor, step: Step) -> Tensor:
        where = step.response & step.real
        if not bool(where.any()):
            return hidden
        return _where(where, edit(hidden, step), hidden)

    return restricted


def _where(where: Tensor, edited: Tensor, hidden: Tensor) -> Tensor:
    shape = where.shape + (1,) * (hidden.dim() - where.dim())
    return torch.where(where.view(shape), edited, hidden)


def _last(step: Step) -> Step:
    return replace(
        step,
        positions=step.positions[:, -1:],
        real=step.real[:, -1:],
        response=step.response[:, -1:],
        draws=step.draws[:, -1:],
    )


def best_of_each(scores: Tensor, rows: Rows) -> Tensor:
    """Index of each prompt's best row, prompts in ascending order; ties go to the lower slot."""
    keys = zip(rows.origin.tolist(), scores.tolist(), rows.slot.tolist(), strict=True)
    best: dict[int, tuple[float, int, int]] = {}
    for i, (prompt, score, slot) in enumerate(keys):
        rank = (-score, slot, i)
        if prompt not in best or rank < best[prompt]:
            best[prompt] = rank
    return torch.tensor([best[p][2] for p in sorted(best)], device=rows.origin.device)
