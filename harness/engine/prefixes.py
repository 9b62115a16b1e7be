"""Rewards of partial answers, step after step: r([s, z]) for every candidate z.

    SameTokens   the reward model has the policy's tokenizer: ids are fed as they are drawn,
                 k candidates a pass, one cache a row
    OtherTokens  it has another: each candidate's text is tokenized anew, and what it shares
                 with the cached text is not read again
    Whole        it is no decoder, or its attention takes no mask of ours: every text is
                 scored whole

A candidate that ends the answer is scored as the finished answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from harness.chat import Chat
from harness.engine.companion import Companion
from harness.engine.packed import Packed
from harness.engine.rows import Rows, Step
from harness.errors import PlumblineError

if TYPE_CHECKING:
    from harness.engine.model import Model
    from harness.engine.reward import RewardModel

_PROBE = "\u2042"  # an answer no template writes itself


class CandidateRewards(Protocol):
    """What scores the candidates of a step."""

    def __call__(self, step: Step, candidates: Tensor) -> Tensor:
        """Score [s, z]: candidates [rows, k] -> [rows, k]."""
        ...


def same_tokens(one: Any, other: Any) -> bool:
    """Say whether two tokenizers mean the same by every id, and cut texts alike."""
    if one is other:
        return True
    probes = ("Hello there, how are you?", " it's 3.14 \u00e9t\u00e9\n\nHuman: no", "a b c")
    return bool(one.get_vocab() == other.get_vocab()) and all(
        one(p, add_special_tokens=False).input_ids == other(p, add_special_tokens=False).input_ids
        for p in probes
    )


@dataclass(frozen=True)
class SameTokens:
    """Feed the policy's own ids to the reward model."""

    judge: RewardModel
    model: Model

    @cached_property
    def reader(self) -> Companion:
        """The reward model's body, reading along."""
        judge = self.judge
        return Companion(
            judge.net.base_model,
            self._opened,
            lambda tokens: judge.ledger.count(judge.role, tokens),
            suffix=self.suffix,
            ends=self.model.ends,
        )

    @cached_property
    def suffix(self) -> tuple[int, ...]:
        """The ids with which the judge's template closes an answer."""
        judge = self.judge
        closing = judge.template.render(Chat.of("?").assistant(_PROBE)).partition(_PROBE)[2]
        ids: list[int] = judge.tokenizer(closing, add_special_tokens=False).input_ids
        return (*ids, *_added_after(judge))

    def __call__(self, step: Step, candidates: Tensor) -> Tensor:
        """Score the candidates in one pass."""
        self._fit(step.rows)
        return self.judge.read(self.reader.states(step, candidates))

    def _opened(self, chat: Chat) -> list[int]:
        judge = self.judge
        whole = judge.template.render(chat.assistant(_PROBE)).partition(_PROBE)[0]
        text = judge.template.render(chat)
        if not whole.startswith(text):
            text = whole  # a template whose open turn is not the head of its closed one
        ids: list[int] = judge.tokenizer(text, add_special_tokens=judge.template.bos).input_ids
        after = len(_added_after(judge))
        return ids[: len(ids) - after]

    def _fit(self, rows: Rows) -> None:
        """Refuse what the reward model cannot read, before it is read."""
        if rows.drawn:
            return
        room = self.judge.max_length - rows.ids.shape[1] - len(self.suffix)
        for chat in {rows.chats[i] for i in rows.origin.tolist()}:
            if len(self._opened(chat)) > room:
                raise _too_long(self.judge, chat)


@dataclass(frozen=True)
class OtherTokens:
    """Tokenize each candidate's text for the reward model; read from where it is new."""

    judge: RewardModel

    def __call__(self, step: Step, candidates: Tensor) -> Tensor:
        """Score the candidates in two passes: what they share, then what they do not."""
        rows, k = step.rows, candidates.shape[1]
        live = step.real[:, -1].tolist()
        texts = self._texts(rows, candidates, live)
        state = rows.carry.get(self._key)
        if not isinstance(state, _Retokenized):
            count = self._count
            state = _Retokenized(
                Packed(self.judge.net.base_model, count, len(rows)), [()] * len(rows)
            )
        states = state.states(texts, k)
        rows.carry[self._key] = state
        return self.judge.read(states).to(candidates.device)

    def _count(self, tokens: int) -> None:
        self.judge.ledger.count(self.judge.role, tokens)

    @property
    def _key(self) -> str:
        return f"retokenized {id(self):x}"

    def _texts(
        self, rows: Rows, candidates: Tensor, live: Sequence[bool]
    ) -> list[list[tuple[int, ...]]]:
        """Give each running row's candidates as the judge's ids; none for a row that is over."""
        out = []
        drawn = rows.tokens()
        for row, chat in enumerate(rows.asked()):
            found: list[tuple[int, ...]] = []
            for z in candidates[row].tolist() if live[row] else ():
                ids = self.judge.encode(chat, rows.decode_text([*drawn[row], z]))
                if len(ids) > self.judge.max_length:
                    raise _too_long(self.judge, chat)
                found.append(tuple(ids))
            out.append(found)
        return out


@dataclass
class _Retokenized:
    """Cached texts of a judge with a tokenizer of its own; ``held`` are their ids."""

    packed: Packed
    held: list[tuple[int, ...]]

    def select(self, index: Tensor) -> _Retokenized:
        return _Retokenized(self.packed.select(index), [self.held[i] for i in index.tolist()])

    def states(self, texts: Sequence[Sequence[tuple[int, ...]]], k: int) -> Tensor:
        """Give the state at the end of each of a row's k texts: [rows, k, width]."""
        shared = [_common(t)[: min(map(len, t)) - 1] if t else () for t in texts]
        stay = [len(_common([held, s])) for held, s in zip(self.held, shared, strict=True)]
        packed = self.packed
        packed.back_to(torch.tensor(stay, device=packed.device))
        fresh = [s[n:] for s, n in zip(shared, stay, strict=True)]
        if any(fresh):
            packed.feed(*_padded(fresh, packed.device))
        self.held = shared
        tails = [t[len(s) :] for s, row in zip(shared, texts, strict=True) for t in row or [()] * k]
        ids, real = _padded(tails, packed.device)
        found = packed.branch(ids.view(len(texts), k, -1), real.view(len(texts), k, -1))
        packed.drop()
        last = (real.sum(-1) - 1).clamp(min=0).view(len(texts), k, 1, 1)
        return found.gather(2, last.expand(-1, -1, 1, found.shape[-1])).squeeze(2)


@dataclass(frozen=True)
class Whole:
    """Score every candidate's text from its first token: slow, and right for any judge."""

    judge: RewardModel

    def __call__(self, step: Step, candidates: Tensor) -> Tensor:
        """Score the candidates."""
        rows, drawn = step.rows, step.rows.tokens()
        live = step.real[:, -1].tolist()
        out = torch.zeros(candidates.shape, dtype=torch.float64)
        asked = [
            (row, i, chat, rows.decode_text([*drawn[row], z]))
            for row, chat in enumerate(rows.asked())
            if live[row]
            for i, z in enumerate(candidates[row].tolist())
        ]
        scores = self.judge.score([a[2] for a in asked], [a[3] for a in asked])
        for (row, i, chat, _), score in zip(asked, scores, strict=True):
            if score != score:
                raise _too_long(self.judge, chat)
            out[row, i] = score
        return out.to(candidates.device)


def _common(texts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Give the longest head that all texts share."""
    first, last = min(texts), max(texts)  # in lexicographic order they differ earliest
    same = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        same += 1
    return tuple(first[:same])


def _padded(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack texts with padding on the right: ids, and True at real tokens."""
    longest = max(1, *map(len, texts))
    ids = torch.tensor([[*t, *[0] * (longest - len(t))] for t in texts], device=device)
    sizes = torch.tensor([len(t) for t in texts], device=device)
    return ids, torch.arange(longest, device=device) < sizes[:, None]


def _added_after(judge: RewardModel) -> list[int]:
    """Give the ids that the judge's tokenizer adds behind every text of its own accord."""
    if not judge.template.bos:
        return []
    bare = judge.tokenizer("a", add_special_tokens=False).input_ids
    ids: list[int] = judge.tokenizer("a").input_ids
    return ids[ids.index(bare[-1]) + 1 :]


def _too_long(judge: RewardModel, chat: Chat) -> PlumblineError:
    return PlumblineError(
        f"reward model {judge.name} reads {judge.max_length} tokens, too few for an answer to "
        f"{chat.last_user[:60]!r} (or it gives NaN)"
    )
