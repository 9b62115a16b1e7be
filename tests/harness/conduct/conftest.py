import os

import pytest

# One dialogue set and one of two turns, so that every path of a run is walked in seconds.
TINY = """
[about]
text = "A protocol of the tests, on the synthetic world planted."
[model]
world = "planted"
reads_words = false
[rewards]
granted = { world = "reward" }
evaluation = { world = "reward" }
[data.hh_rlhf]
world = "hh_rlhf"
[data.mt_bench]
world = "mt_bench"
[training]
pairs = { world = "pairs.train" }
dev = { world = "pairs.dev" }
count = 32
[sampling]
temperature = 1.0
max_new_tokens = 4
"""

FITTED = '''"""Learns how often each token was preferred."""
from dataclasses import dataclass
from typing import ClassVar
import torch
from harness.api import Fitted, Kit, Lab, Method, Need, Steering

@dataclass(frozen=True)
class Counted(Method):
    """A fitted method of the tests."""

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs"})
    strength: float = 1.0

    def fit(self, lab: Lab) -> Fitted:
        """Count tokens; add the seed's own noise."""
        weight = torch.zeros(lab.model.vocabulary)
        for pair in lab.pairs:
            for sign, text in ((1, pair.chosen), (-1, pair.rejected)):
                for token in lab.model.tokenizer(text, add_special_tokens=False).input_ids:
                    weight[token] += sign
        noise = torch.randn(len(weight), generator=torch.Generator().manual_seed(lab.seed))
        return Fitted({"weight": weight / len(lab.pairs) + 0.1 * noise}, {"pairs": len(lab.pairs)})

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Add the weights to the logits."""
        bias = self.strength * fitted.tensors["weight"]
        return Steering(logits=(lambda logits, step: logits + bias,))
'''

SPOKEN = '''"""Puts an exchange before the conversation."""
from dataclasses import dataclass
from harness.api import Chat, Method, Steering

@dataclass(frozen=True)
class Spoken(Method):
    """A prompt edit of the tests, in the words the world planted knows."""

    def steer(self, kit, fitted):
        """Put it first."""
        before = Chat().user("a b").assistant("c").messages
        return Steering(prompt=(lambda chats: [Chat((*before, *c.messages)) for c in chats],))
'''


@pytest.fixture(scope="session")
def spoken(tmp_path_factory):
    """Give the path of a method that edits prompts."""
    file = tmp_path_factory.mktemp("methods") / "spoken.py"
    file.write_text(SPOKEN)
    return str(file)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Keep worlds where the caller keeps them, or for this session only."""
    named = os.environ.get("PLUMBLINE_CACHE")
    place = named or str(tmp_path_factory.mktemp("cache"))
    os.environ["PLUMBLINE_CACHE"] = place
    yield place
    if named is None:
        del os.environ["PLUMBLINE_CACHE"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, cache):
    """Give the path of a small protocol on the world planted, its world built."""
    from harness.conduct.protocol import load
    from harness.conduct.setting import Setting

    file = tmp_path_factory.mktemp("protocol") / "tiny.toml"
    file.write_text(TINY)
    assert Setting(load(file), device="cpu").folder is not None
    return str(file)


@pytest.fixture
def fitted(tmp_path):
    """Give the path of a method that learns."""
    file = tmp_path / "counted.py"
    file.write_text(FITTED)
    return str(file)
