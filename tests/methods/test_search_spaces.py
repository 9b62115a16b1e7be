"""What every method declares worth trying."""

import pytest

from harness.conduct import plugins
from harness.conduct.tuning.proposing import axes, proposals
from harness.contracts.method import Named, Stack

NAMES = [one.name for one in plugins.methods()]


def stack_of(name):
    """A stack of one method at its defaults."""
    return Stack((Named(name, plugins.method_class(name)[1]()),))


@pytest.mark.parametrize("name", NAMES)
def test_every_value_can_be_set(name):
    """A declared value is of its field's type, and the method takes it."""
    space = axes(stack_of(name))
    assert {a.field for a in space} == set(plugins.method_class(name)[1].search_space)


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_among_the_values_or_is_chosen_by_the_fit(name):
    """What a method does by default is one of the settings worth trying."""
    made = stack_of(name).parts[0].method
    for field, values in made.search_space.items():
        default = getattr(made, field)
        assert default is None or default in values, field


@pytest.mark.parametrize("name", NAMES)
def test_no_value_is_worth_trying_that_does_nothing(name):
    """A setting at which the method equals the base model is no setting to try."""
    made = stack_of(name).parts[0].method
    neutral = made.neutral or {}
    if len(neutral) == 1:
        ((field, value),) = neutral.items()
        assert value not in made.search_space.get(field, ())


@pytest.mark.parametrize("name", [n for n in NAMES if plugins.method_class(n)[1].search_space])
def test_eight_trials_find_settings_to_try(name):
    """Of all methods that declare a space, the combinations proposed are built, the first as is."""
    stack = stack_of(name)
    found = proposals(stack, axes(stack), 8, seed=0)
    assert found.stacks[0] == stack
    assert len({s.label for s in found.stacks}) == len(found.stacks) >= 3
