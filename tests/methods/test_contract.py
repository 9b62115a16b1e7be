"""Every method in the folder, against every clause of the contract."""

import pytest

from harness.conduct import plugins
from harness.conduct.check import CLAUSES, Subject, check
from harness.contracts.method import Fitted, Method
from harness.engine.steering import HiddenEdit, Site, Steering

SUBJECTS = [
    Subject(name, plugins.method_class(name)[1]) for name in (m.name for m in plugins.methods())
]


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_clause(subject, clause):
    """The method keeps the clause."""
    clause(subject)


# ------------------------------------------------------- the clauses can fail


def _problems(cls):
    return {f.clause: f.problem for f in check(Subject("broken", cls)) if f.problem}


def test_a_sound_method_has_no_problems():
    """A method that keeps the contract passes every clause."""
    assert _problems(plugins.method_class("prompting")[1]) == {}


def test_a_method_that_can_be_changed_is_caught():
    """A dataclass that is not frozen fails where building is checked."""

    class Mutable(Method):
        def __init__(self):
            self.n = 1

        def steer(self, kit, fitted):
            return Steering()

    assert "builds without work" in _problems(Mutable)


def test_global_noise_is_caught():
    """A fit that draws from torch's global generator is not deterministic."""
    from dataclasses import dataclass

    import torch

    @dataclass(frozen=True)
    class Noisy(Method):
        def fit(self, lab):
            return Fitted(tensors={"v": torch.randn(32)})

        def steer(self, kit, fitted):
            v = fitted.tensors["v"]
            return Steering(hidden=(HiddenEdit(Site.layer(1), lambda h, step: h + v),))

    problems = _problems(Noisy)
    assert "global noise" in problems["fit is deterministic"]


def test_mixing_rows_is_caught():
    """An edit that averages over the batch answers differently alone."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Mixing(Method):
        def steer(self, kit, fitted):
            edit = HiddenEdit(Site.layer(1), lambda h, step: h + 3 * h.mean(0, keepdim=True))
            return Steering(hidden=(edit,))

    assert "batching does not matter" in _problems(Mixing)


def test_undeclared_needs_are_caught():
    """Reading the reward model or the test prompts without saying so is found."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Sly(Method):
        def fit(self, lab):
            return Fitted(facts={"n": len(lab.queries), "r": lab.reward.name})

        def steer(self, kit, fitted):
            return Steering()

    problem = _problems(Sly)["asks for what it needs"]
    assert "declare needs={'reward'}" in problem


def test_a_wrong_neutral_value_is_caught():
    """A declared neutral value that changes the answers is found."""
    from dataclasses import dataclass
    from typing import ClassVar

    @dataclass(frozen=True)
    class Wrong(Method):
        neutral: ClassVar = {"c": 0.0}
        c: float = 1.0

        def steer(self, kit, fitted):
            edit = HiddenEdit(Site.layer(1), lambda h, step: h + (self.c + 1) * h.flip(-1))
            return Steering(hidden=(edit,))

    assert "neutral is unsteered" in _problems(Wrong)


def test_a_bad_search_space_is_caught():
    """A search space that names no field, or a value that does not build, is found."""
    from dataclasses import dataclass
    from typing import ClassVar

    @dataclass(frozen=True)
    class Astray(Method):
        search_space: ClassVar = {"strength": (1, 2)}

        def steer(self, kit, fitted):
            return Steering()

    assert "strength" in _problems(Astray)["search space constructs"]
