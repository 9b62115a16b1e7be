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


PUSHED = '''"""Pushes one token, more or less, and learns nothing."""
from dataclasses import dataclass
from typing import ClassVar
from harness.api import Method, PlumblineError, Steering

@dataclass(frozen=True)
class Pushed(Method):
    """A method of the tests with a strength."""

    search_space: ClassVar = {"strength": (0.0, 1.0, 20.0), "token": (1, 2)}
    strength: float = 0.0
    token: int = 1

    def __post_init__(self):
        if self.strength == 20.0 and self.token == 2:
            raise PlumblineError("too much of it")

    def steer(self, kit, fitted):
        """Add the strength to the token's logit."""
        def push(logits, step):
            logits = logits.clone()
            logits[..., self.token] += self.strength
            return logits
        return Steering(logits=(push,))
'''

CURIOUS = '''"""Reads the prompts it is going to be asked."""
from dataclasses import dataclass
from typing import ClassVar
from harness.api import Fitted, Method, Steering

@dataclass(frozen=True)
class Curious(Method):
    """A transductive method of the tests."""

    needs: ClassVar = frozenset({"queries"})
    search_space: ClassVar = {"times": (1, 2, 3, 4)}
    times: int = 1

    def fit(self, lab):
        """Remember them."""
        return Fitted({}, {"read": [p.chat.last_user for p in lab.queries]})

    def steer(self, kit, fitted):
        """Do nothing."""
        return Steering()
'''

COUNTED = '''"""Answers the development prompts while it is fitted."""
from dataclasses import dataclass
from typing import ClassVar
import torch
from harness.api import Fitted, Method, Prompt, Steering

@dataclass(frozen=True)
class {name}(Method):
    """A fit of the tests that tries things."""

    search_space: ClassVar = {{"times": (1, 2, 3)}}
    tries: ClassVar[bool] = {tries}
    times: int = 1

    def fit(self, lab):
        """Answer them, so many times, as long as it may."""
        asked = [Prompt("x", lab.dev[0].prompt)]
        made = 0
        while made < self.times and {asks}:
            lab.generate(asked)
            made += 1
        return Fitted({{"t": torch.zeros(1)}}, {{"made": made}})

    def steer(self, kit, fitted):
        """Do nothing."""
        return Steering()
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


@pytest.fixture(scope="session")
def counted(tmp_path_factory):
    """Give the path of the same method, for fixtures that outlive a test."""
    file = tmp_path_factory.mktemp("learned") / "counted.py"
    file.write_text(FITTED)
    return str(file)


@pytest.fixture
def pushed(tmp_path):
    """Give the path of a method with a small search space."""
    file = tmp_path / "pushed.py"
    file.write_text(PUSHED)
    return str(file)


@pytest.fixture
def curious(tmp_path):
    """Give the path of a method that reads the prompts it is going to be asked."""
    file = tmp_path / "curious.py"
    file.write_text(CURIOUS)
    return str(file)


@pytest.fixture
def trying(tmp_path):
    """Give the function that writes a method whose fit answers development prompts."""

    def write(name, tries, asks="lab.budget.left != 0"):
        file = tmp_path / f"{name.lower()}.py"
        file.write_text(COUNTED.format(name=name, tries=tries, asks=asks))
        return str(file)

    return write
