"""Peak memory of fitting RE-CONTROL's V on N prompts: ``python recontrol_memory.py N``.

The model is a stand-in whose states are random, so that what is measured is collecting and
training.  Prints the peak of resident memory and the size of one shard, in MiB.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch

from harness.api import Chat, Prompt
from methods._trajectories import SHARD, collect
from methods._value_training import Recipe, Scale, train

WIDTH, LENGTH = 256, 48


class Stand:
    """A lab whose model says LENGTH tokens to everything."""

    scratch = None
    reward = SimpleNamespace(
        name="length", score=lambda chats, texts: [float(len(c.last_user)) for c in chats]
    )

    def generate(self, prompts):
        """Answer."""
        return [SimpleNamespace(tokens=(1,) * LENGTH, text="x") for _ in prompts]

    def record(self, chats, answers, sites, at):
        """Give random states, a batch at a time."""
        for start in range(0, len(chats), 64):
            texts = list(range(start, min(start + 64, len(chats))))
            states = {sites[0]: [torch.randn(LENGTH, WIDTH) for _ in texts]}
            yield SimpleNamespace(texts=texts, states=states)


def main() -> None:
    """Collect, train one epoch, print."""
    torch.set_num_threads(1)
    prompts = [Prompt(str(i), Chat.of("x" * (i % 7))) for i in range(int(sys.argv[1]))]
    with tempfile.TemporaryDirectory() as folder:
        shards = collect(Stand(), prompts, Path(folder), "train")
        recipe = Recipe(hidden=8, layers=2, epochs=1)
        train(shards, recipe, Scale.of(shards.rewards), 0, torch.device("cpu"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(peak, SHARD * LENGTH * WIDTH * 4 / 2**20)


if __name__ == "__main__":
    main()
