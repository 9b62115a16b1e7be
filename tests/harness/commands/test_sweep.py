"""The command ``sweep``: help, what is swept, and one line for what is wrong."""

import pytest
from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import runner, sweeping


def call(*words):
    """Call the command line in this process."""
    return CliRunner().invoke(app, ["sweep", *words], env={"COLUMNS": "200"})


def plan(method, over=""):
    """Plan a sweep on the default protocol."""
    return sweeping.plan(runner.order(method, "testbed", benchmarks="hh_rlhf"), over)


def test_help_says_what_is_swept():
    """The options are explained."""
    text = call("--help").stdout
    for words in ("--over", "--pairs", "2, 4 and 8 nats", "search space"):
        assert words in text


def test_a_method_names_its_own_knob():
    """Left out, the knob is the neutral field, over its search space and its neutral value."""
    found = plan("reward_guided")
    assert found.knob == "reward_guided.w"
    assert list(found.points) == [0.0, 0.5, 1.0, 1.5, 2.0, 4.0]
    assert found.points[0.0] == "reward_guided(w=0.0)"
    assert found.points[1.0] == "reward_guided"
    assert len(found.order.stacks) == 7
    assert list(plan("best_of_n").points) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


def test_values_are_given_in_words():
    """OVER names a field of the last method of a stack; other fields stay as they are."""
    found = plan("prompting+best_of_n", "n=1,2,3")
    assert found.points[2.0] == "prompting+best_of_n(n=2)"
    assert plan("reward_guided(w=9)", "k=5,10,20").points[5.0] == "reward_guided(w=9.0,k=5)"
    assert plan("soft_best_of_n", "tau").knob == "soft_best_of_n.tau"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "nosuch"), "unknown method 'nosuch'"),
        (("-m", "reward_guided,best_of_n"), "a sweep takes one row other than unsteered"),
        (("-m", "unsteered"), "there are 0"),
        (("-m", "always_refuse"), "always_refuse names no strength of its own"),
        (("-m", "reward_guided", "--over", "v=1,2,3"), "has no field 'v'"),
        (("-m", "reward_guided", "--over", "w=1,x,3"), "are not values of reward_guided.w"),
        (("-m", "reward_guided", "--over", "rule=sample,greedy"), "are not all finite numbers"),
        (("-m", "reward_guided", "--over", "w=1,2"), "needs three values or more"),
        (("-m", "reward_guided", "--over", "w=0,1,inf"), "are not"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    """Each mistake exits with 1 and one line that says what is accepted."""
    result = call(*words, "--output_path", str(tmp_path))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
