"""The states that drew a model's own answers, and the answers' rewards, in shards on disk.

A shard holds one chunk of prompts: they are answered, scored, read once more by one
teacher-forced pass, written, forgotten.  So memory holds one shard, however many prompts
there are.  States of different answers lie end to end, without padding:

    states   [tokens, width]  o_0 ... o_{T-1} of the first answer, then of the second, ...
    lengths  [answers]        T of each; answers of no token are left out and counted
    rewards  [answers]        raw
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from harness.api import Lab, PlumblineError, Prompt, Site

SHARD = 256  # answers


@dataclass(frozen=True)
class Trajectories:
    """Some answers' states; see the module's docstring for the layout."""

    states: Tensor
    lengths: Tensor
    rewards: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ends(self) -> Tensor:
        """Index of each answer's last state, the one that drew its last token: [answers]."""
        return self.lengths.cumsum(0) - 1

    @property
    def starts(self) -> Tensor:
        """Index of each answer's first state: [answers]."""
        return self.ends - self.lengths + 1

    def at(self, share: float) -> Tensor:
        """Give the state at a share t/(T-1) of every answer: [answers, width]."""
        steps = (share * (self.lengths - 1)).round().long()
        return self.states[self.starts + steps]

    def some(self, chosen: Tensor) -> Trajectories:
        """Pick answers by number, in that order."""
        lengths = self.lengths[chosen]
        moved = self.starts[chosen] - (lengths.cumsum(0) - lengths)
        index = moved.repeat_interleave(lengths) + torch.arange(int(lengths.sum()))
        return Trajectories(self.states[index], lengths, self.rewards[chosen])


@dataclass(frozen=True)
class Shards:
    """Trajectories on disk, a file at a time.

    rewards  raw rewards of all answers, shard after shard.
    empty    answers without a token, left out.
    """

    files: tuple[Path, ...]
    rewards: Tensor
    empty: int = 0

    def __len__(self) -> int:
        return len(self.rewards)

    def load(self, number: int) -> Trajectories:
        """Read one shard."""
        from safetensors.torch import load_file

        return Trajectories(**load_file(self.files[number]))

    def shuffled(self, seed: int) -> Shards:
        """Deal the rewards anew among all answers, on disk too: a control that knows nothing."""
        rng = torch.Generator().manual_seed(seed)
        dealt = self.rewards[torch.randperm(len(self), generator=rng)]
        start = 0
        for number, file in enumerate(self.files):
            shard = self.load(number)
            _write(file, replace(shard, rewards=dealt[start : start + len(shard)].clone()))
            start += len(shard)
        return replace(self, rewards=dealt)


@contextmanager
def scratch(lab: Lab) -> Iterator[Path]:
    """Give the lab's scratch folder, or one that is gone after the block."""
    if lab.scratch is not None:
        yield lab.scratch
        return
    with tempfile.TemporaryDirectory(prefix="plumbline-") as folder:
        yield Path(folder)


def repeated(prompts: Sequence[Prompt], times: int) -> list[Prompt]:
    """Ask each prompt several times, under luck of its own each time."""
    return [replace(p, id=f"{p.id}/{k}") for p in prompts for k in range(times)]


def collect(
    lab: Lab, prompts: Sequence[Prompt], folder: Path, name: str, *, size: int = SHARD
) -> Shards:
    """Answer, score and read every prompt with the model as it is, ``size`` answers at a time.

    Raises PlumblineError where no reward model is granted, and for a reward that is NaN.
    """
    files: list[Path] = []
    rewards: list[Tensor] = []
    empty = 0
    for start in range(0, len(prompts), size):
        shard = _chunk(lab, prompts[start : start + size])
        empty += min(size, len(prompts) - start) - len(shard)
        if len(shard):
            files.append(folder / f"{name}.{len(files):05d}.safetensors")
            _write(files[-1], shard)
            rewards.append(shard.rewards)
    return Shards(tuple(files), torch.cat(rewards) if rewards else torch.zeros(0), empty)


def _chunk(lab: Lab, prompts: Sequence[Prompt]) -> Trajectories:
    judge = lab.reward
    answers = [
        (prompt.chat, decoded)
        for prompt, decoded in zip(prompts, lab.generate(prompts), strict=True)
        if decoded.tokens
    ]
    chats = [chat for chat, _ in answers]
    rewards = torch.tensor(judge.score(chats, [d.text for _, d in answers]), dtype=torch.float64)
    bad = (~torch.isfinite(rewards)).nonzero().flatten().tolist()
    if bad:
        raise PlumblineError(
            f"reward model {judge.name} gives {float(rewards[bad[0]])} for {len(bad)} of "
            f"{len(rewards)} training answers, first to {chats[bad[0]].last_user[:60]!r}"
        )
    found: dict[int, Tensor] = {}
    for batch in lab.record(chats, [d.tokens for _, d in answers], [Site.final()], at="draws"):
        states = batch.states[Site.final()]
        found |= {i: s.cpu() for i, s in zip(batch.texts, states, strict=True)}
    lengths = torch.tensor([len(d.tokens) for _, d in answers], dtype=torch.long)
    together = torch.cat([found[i] for i in range(len(answers))]) if found else torch.zeros(0, 0)
    return Trajectories(together, lengths, rewards)


def _write(file: Path, shard: Trajectories) -> None:
    from safetensors.torch import save_file

    save_file({name: t.contiguous() for name, t in vars(shard).items()}, file)
