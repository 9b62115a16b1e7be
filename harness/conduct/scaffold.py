"""``make new-method``: a small method that works, and its test, to be changed into another."""

from __future__ import annotations

import keyword
from pathlib import Path

from harness.conduct.plugins import methods
from harness.conduct.store import write_text
from harness.errors import PlumblineError

METHOD = '''"""{title}: say what it does in one line (``make list`` shows this line).

    logits'(v) = logits(v) + strength * w(v)
    w(v) = log (1 + times v is in chosen answers) - log (1 + times v is in rejected ones)

Name of the paper, year, arXiv number.  Words that people preferred become likelier: a small
method that works.  Keep the shape, change the mathematics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import Fitted, Kit, Lab, Method, Need, Steering, Step, at_least


@dataclass(frozen=True)
class {cls}(Method):
    """Adds a fixed preference to every token's logit.

    strength  how much of the preference is added; 0 is the base model.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({{"pairs"}})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {{"strength": (0.1, 0.3, 1.0)}}
    neutral: ClassVar[Mapping[str, object] | None] = {{"strength": 0.0}}

    strength: float = 0.3

    def __post_init__(self) -> None:
        at_least(self, strength=0)

    def fit(self, lab: Lab) -> Fitted:
        """Count tokens in the training pairs.  Stored once; never repeated."""
        counts = torch.ones(2, lab.model.vocabulary, dtype=torch.float64)
        for pair in lab.pairs:
            for side, text in enumerate((pair.chosen, pair.rejected)):
                ids = lab.model.tokenizer(text, add_special_tokens=False).input_ids
                counts[side] += torch.bincount(torch.tensor(ids), minlength=counts.shape[1])
        weight = (counts[0] / counts[1]).log().float()
        return Fitted({{"weight": weight}}, {{"pairs": len(lab.pairs)}})

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Say what to touch while a response is decoded: here, the logits."""
        bias = self.strength * fitted.tensors["weight"].to(kit.model.device)

        def prefer(logits: Tensor, step: Step) -> Tensor:  # [rows, vocabulary]
            return logits + bias

        return Steering(logits=(prefer,))
'''

TEST = '''"""{title}: its equation on a case worked by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from harness.api import Chat, Kit, Lab, PlumblineError, Preference
from methods.{name} import {cls}


class Letters:
    """A model as far as this method knows one: a = 0, b = 1, c = 2."""

    vocabulary = 3
    device = torch.device("cpu")

    @staticmethod
    def tokenizer(text, add_special_tokens):
        """Give a letter a number."""
        return SimpleNamespace(input_ids=["abc".index(letter) for letter in text])


def test_the_weight_of_a_token_is_the_log_ratio_of_its_counts():
    """A token twice in chosen and never in rejected answers weighs log 3."""
    pairs = [Preference("p", Chat.of("?"), "aac", "bc")]
    method = {cls}(strength=2.0)
    fitted = method.fit(Lab(Letters(), pairs=pairs))
    expected = [math.log(3), math.log(1 / 2), 0.0]
    assert fitted.tensors["weight"].tolist() == pytest.approx(expected)
    (edit,) = method.steer(Kit(Letters()), fitted).logits
    assert edit(torch.zeros(1, 3), None)[0].tolist() == pytest.approx([2 * w for w in expected])


def test_a_negative_strength_is_refused():
    """A value without meaning is one clear line."""
    with pytest.raises(PlumblineError, match="strength is -1"):
        {cls}(strength=-1.0)
'''


def write(name: str, folder: Path) -> list[Path]:
    """Write ``methods/<name>.py`` and its test; refuses to overwrite anything."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise PlumblineError(
            f"NAME is {name!r}; it must be a Python name without '_' in front, such as my_way"
        )
    if name != name.lower() or name == "all":
        raise PlumblineError(f"NAME is {name!r}; method names are lower case, and 'all' is taken")
    if name in {one.name for one in methods()}:
        raise PlumblineError(f"there is a method {name!r} already")
    if not (folder / "methods").is_dir():
        raise PlumblineError(f"{folder.resolve()} has no methods/; run this from the checkout")
    words = {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "cls": "".join(part.capitalize() for part in name.split("_")),
    }
    files = {
        folder / "methods" / f"{name}.py": METHOD,
        folder / "tests" / "methods" / f"test_{name}.py": TEST,
    }
    for file in files:
        if file.exists():
            raise PlumblineError(f"{file} exists already")
    for file, text in files.items():
        write_text(file, text.format(**words))
    return list(files)
