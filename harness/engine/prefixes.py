"""Rewards of partial answers, step after step: r([s, z]) for every candidate z.

    SameTokens   the reward model has the policy's tokenizer: ids are fed as they are drawn,
                 k candidates a pass, one cache a row
    OtherTokens  it has another: each candidate's text is tokenized anew, and what it shares
                 with the cached text is not read again
    Whole        it is no decoder, or its attention takes no mask of ours: every text is
                 scored whole
    Growing      the same number for rows that a search looks at now and again: what was read
                 of a row is not read again

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
from harness.engine.model import left_padded
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
        """Score [s, z]: candidates [rows, k] -> [rows, k].

        Or whole continuations [rows, k, m], -1 behind a shorter one.
        """
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
        if not step.rows.drawn:
            self.fit(step.rows)
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

    def fit(self, rows: Rows) -> None:
        """Refuse what the reward model cannot read, before it is read."""
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
            for said in _said(candidates[row]) if live[row] else ():
                ids = self.judge.encode(chat, rows.decode_text([*drawn[row], *said]))
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
        out = torch.zeros(candidates.shape[:2], dtype=torch.float64)
        asked = [
            (row, i, chat, rows.decode_text([*drawn[row], *said]))
            for row, chat in enumerate(rows.asked())
            if live[row]
            for i, said in enumerate(_said(candidates[row]))
        ]
        scores = self.judge.score([a[2] for a in asked], [a[3] for a in asked])
        for (row, i, chat, _), score in zip(asked, scores, strict=True):
            if score != score:
                raise _too_long(self.judge, chat)
            out[row, i] = score
        return out.to(candidates.device)


class Growing:
    """Score rows as they grow: an unfinished answer is read on from where it was last scored.

    For a reward model with the policy's tokenizer.  What was read is found again by its words,
    so rows may have been rejected or forked in between.  A finished answer is scored once, as
    a text, exactly as ``RewardModel.of_rows`` scores it.
    """

    def __init__(self, judge: RewardModel, model: Model) -> None:
        self.judge = judge
        self.tokens = SameTokens(judge, model)
        self.packed: Packed | None = None
        self.held: dict[tuple[Chat, tuple[int, ...]], int] = {}
        self.read = 0  # tokens of each held answer
        self.whole: dict[tuple[Chat, str], float] = {}

    @torch.no_grad()
    def __call__(self, rows: Rows) -> Tensor:
        """Score every row: [rows] float64."""
        scores = torch.zeros(len(rows), dtype=torch.float64, device=rows.origin.device)
        over = rows.finished.nonzero().flatten()
        if len(over):
            scores[over] = self._finished(rows.select(over))
        live = (~rows.finished).nonzero().flatten()
        if len(live):
            scores[live] = self._growing(rows.select(live)).to(scores)
        else:
            self.packed, self.held, self.whole = None, {}, {}  # the last look at these rows
        return scores

    def _finished(self, rows: Rows) -> Tensor:
        """Score whole answers that have not been met before."""
        asked = list(zip(rows.asked(), rows.texts(), strict=True))
        new = [i for i, pair in enumerate(asked) if pair not in self.whole]
        if new:
            found = self.judge.of_rows(rows.select(torch.tensor(new, device=rows.origin.device)))
            self.whole |= dict(zip([asked[i] for i in new], found.tolist(), strict=True))
        return torch.tensor([self.whole[pair] for pair in asked], dtype=torch.float64)

    def _growing(self, rows: Rows) -> Tensor:
        """Read the new tokens and the template's closing words after them; forget the latter."""
        drawn = rows.ids[:, : rows.drawn]
        texts = list(zip(rows.asked(), map(tuple, drawn.tolist()), strict=True))
        places = [self.held.get((chat, ids[: self.read])) for chat, ids in texts]
        known = [place for place in places if place is not None]
        if self.packed is None or len(known) < len(texts):
            self._open(rows)
        else:
            self.packed.select(torch.tensor(known, device=self.packed.device))
        packed = self.packed
        assert packed is not None
        fresh = drawn[:, self.read :].to(packed.device)
        last = packed.feed(fresh, torch.ones_like(fresh, dtype=torch.bool))[:, -1]
        self.held, self.read = {text: i for i, text in enumerate(texts)}, rows.drawn
        if self.tokens.suffix:
            closing = fresh.new_tensor(self.tokens.suffix).expand(len(rows), 1, -1)
            last = packed.branch(closing, torch.ones_like(closing, dtype=torch.bool))[:, 0, -1]
            packed.drop()
        return self.judge.read(last)

    def _open(self, rows: Rows) -> None:
        """Read each prompt once."""
        self.tokens.fit(rows)
        prompts, place = rows.origin.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        reader = self.tokens.reader
        packed = Packed(reader.body, reader.count, len(prompts))
        texts = [reader.opened(rows.chats[i]) for i in prompts.tolist()]
        packed.feed(*left_padded(texts, packed.device)[:2])
        self.packed, self.read = packed.select(place.to(packed.device)), 0


def _said(candidates: Tensor) -> list[list[int]]:
    """Give one row's candidates [k], or continuations [k, m], as lists of tokens."""
    each = candidates if candidates.dim() == 2 else candidates[:, None]
    return [[z for z in tokens if z >= 0] for tokens in each.tolist()]


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
