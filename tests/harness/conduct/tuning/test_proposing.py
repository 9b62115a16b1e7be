"""Which settings are tried: all different, spread over the space, the same for the same seed."""

from dataclasses import dataclass
from typing import ClassVar

from harness.conduct.tuning import proposing, trials
from harness.conduct.tuning.objective import Objective
from harness.contracts.budget import Chosen
from harness.contracts.method import Method, Named, Stack


@dataclass(frozen=True)
class Plain(Method):
    """A method of ten settings."""

    search_space: ClassVar = {"a": (1, 2), "b": (0.1, 0.2, 0.3, 0.4, 0.5)}
    a: int = 1
    b: float = 0.3

    def steer(self, kit, fitted):
        """Never called."""
        raise AssertionError


def two_by_five():
    """A stack of ten settings."""
    return Stack((Named("plain", Plain()),))


def test_no_setting_is_proposed_twice_while_there_are_others():
    """Ten settings are ten proposals, whatever is asked for above that, and each is another."""
    stack = two_by_five()
    space = proposing.axes(stack)
    for count in (1, 3, 10, 50):
        found = proposing.proposals(stack, space, count, 0).stacks
        assert len({s.label for s in found}) == len(found) == min(count, 10)
        assert found[0] == stack


def test_proposals_depend_on_the_seed_alone_and_a_larger_budget_begins_alike():
    """The same seed gives the same settings; eight trials begin as four do."""
    stack = two_by_five()
    space = proposing.axes(stack)
    four, eight, other = (
        [s.label for s in proposing.proposals(stack, space, n, seed).stacks]
        for n, seed in ((4, 0), (8, 0), (8, 1))
    )
    assert eight[:4] == four
    assert eight != other


def test_settings_that_differ_in_nothing_that_counts_are_one():
    """A field that changes nothing beside another is not worth a trial of its own."""

    class Halved(Plain):
        def unused(self):
            return frozenset({"b"}) if self.a == 2 else frozenset()

    stack = Stack((Named("halved", Halved()),))
    found = proposing.proposals(stack, proposing.axes(stack), 50, 0).stacks
    assert len(found) == 6
    assert sum(s.parts[0].method.a == 2 for s in found) == 1


def test_few_trials_are_spread_over_every_field():
    """Eight settings of two times five hold both values of one field and all of the other."""
    stack = two_by_five()
    found = proposing.proposals(stack, proposing.axes(stack), 9, 0).stacks
    assert {s.parts[0].method.a for s in found} == {1, 2}
    assert {s.parts[0].method.b for s in found} == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_the_best_is_the_best_mean_and_luck_is_found_out():
    """A setting that was best once falls behind when its mean does."""

    def trial(setting, reward, seed=0):
        return trials.Trial(setting, ({},), seed, reward)

    made = [trial(0, 1.0), trial(1, 3.0), trial(2, 2.0), trial(3, 0.0)]
    assert trials.best(made, Objective()).setting == 1
    assert trials.again(made, Objective()).setting == 1
    made.append(trial(1, 0.0, 1))
    assert trials.best(made, Objective()).setting == 2
    assert trials.again(made, Objective()).setting == 2


def test_a_label_says_the_objective_where_it_is_not_the_reward():
    """Rows tuned on different objectives are different rows."""
    stack = two_by_five()
    named = Stack(stack.parts, Chosen(1, "reward@kl<=4"))
    assert named.label == "plain [tuned, 1 trial, reward@kl<=4]"
