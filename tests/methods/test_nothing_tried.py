"""Methods that choose a strength while they are fitted, where no evaluation is left for it."""

import pytest

from harness.contracts.budget import Budget, BudgetSpent
from methods.controlled_decoding import ControlledDecoding
from methods.recontrol import Recontrol
from methods.static_editing import StaticEditing

SMALL = {
    "static_editing": StaticEditing(),
    "recontrol": Recontrol(epochs=1),
    "controlled_decoding": ControlledDecoding(epochs=1, k=0),
}
USUAL = {
    "static_editing": {"strength": 1.0},
    "recontrol": {"n": 30},
    "controlled_decoding": {"strength": 1.0},
}


@pytest.mark.parametrize("name", SMALL)
def test_the_usual_setting_is_taken_and_nothing_is_tried(name, make_lab):
    """A fit without evaluations spends none and uses the setting it names as usual."""
    lab = make_lab()
    lab.budget = Budget(0)
    facts = SMALL[name].fit(lab).facts
    assert lab.budget.spent == 0
    assert "trials" not in facts
    assert {k: facts[k] for k in USUAL[name]} == USUAL[name]


def test_a_fit_that_may_try_is_counted(make_lab):
    """Every answer to the development prompts is counted: doing nothing, then each candidate."""
    lab = make_lab()
    facts = StaticEditing(layer=2).fit(lab).facts
    assert lab.budget.spent == len(facts["trials"]) == 5


def test_one_evaluation_too_many_stops_the_fit(make_lab):
    """A fit is stopped in the middle of its trials where the budget ends."""
    lab = make_lab()
    lab.budget = Budget(3)
    with pytest.raises(BudgetSpent, match="3 were allowed and 3 made"):
        StaticEditing(layer=2).fit(lab)
