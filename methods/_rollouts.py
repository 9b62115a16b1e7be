"""A model's own answers with a reward each, and the states their prefixes lead to.

For an answer y_1 ... y_T a prefix y^t has a state o_t: what the lm_head reads after y_t.
The shards hold o_1 ... o_T, so the state after the end token is among them and the prompt's
own is not: a value is asked for after a candidate token, never before one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.api import Chat, Lab, PlumblineError, Prompt, Site
from methods._trajectories import Shards, Trajectories, _write

SHARD = 256  # answers in memory at once


@dataclass(frozen=True)
class Rollouts:
    """Answers of one token or more.

    rewards  [answers] raw, float64.
    empty    answers without a token, left out.
    """

    chats: tuple[Chat, ...]
    answers: tuple[tuple[int, ...], ...]
    rewards: Tensor
    empty: int = 0

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each answer: [answers]."""
        return torch.tensor([len(a) for a in self.answers], dtype=torch.long)


def rollouts(lab: Lab, prompts: Sequence[Prompt]) -> Rollouts:
    """Answer and score every prompt with the model as it is.

    Raises PlumblineError where no reward model is granted, for a reward that is NaN, and
    where every answer is empty.
    """
    judge = lab.reward
    drawn = lab.generate(prompts)
    kept = [(p.chat, d) for p, d in zip(prompts, drawn, strict=True) if d.tokens]
    if not kept:
        raise PlumblineError(f"each of {len(prompts)} training answers is empty")
    chats = tuple(chat for chat, _ in kept)
    scores = judge.score(chats, [d.text for _, d in kept])
    rewards = torch.tensor(scores, dtype=torch.float64)
    bad = (~torch.isfinite(rewards)).nonzero().flatten().tolist()
    if bad:
        raise PlumblineError(
            f"reward model {judge.name} gives {scores[bad[0]]} for {len(bad)} of {len(scores)} "
            f"training answers, first to {chats[bad[0]].last_user[:60]!r}"
        )
    return Rollouts(chats, tuple(d.tokens for _, d in kept), rewards, len(drawn) - len(kept))


def states_of(lab: Lab, told: Rollouts, folder: Path, name: str, *, size: int = SHARD) -> Shards:
    """Read the answers through the model, ``size`` at a time, into files of their states."""
    files: list[Path] = []
    for start in range(0, len(told), size):
        here = slice(start, start + size)
        found: dict[int, Tensor] = {}
        # One token more than the answer: "draws" gives the states before it, o_0 ... o_T.
        longer = [(*a, a[-1]) for a in told.answers[here]]
        for batch in lab.record(told.chats[here], longer, [Site.final()], at="draws"):
            states = batch.states[Site.final()]
            found |= {i: s[1:].cpu() for i, s in zip(batch.texts, states, strict=True)}
        states = torch.cat([found[i] for i in range(len(longer))])
        files.append(folder / f"{name}.{len(files):05d}.safetensors")
        _write(files[-1], Trajectories(states, told.lengths[here], told.rewards[here].clone()))
    return Shards(tuple(files), told.rewards, told.empty)
