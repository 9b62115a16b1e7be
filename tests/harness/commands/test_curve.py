"""The command ``curve``: help, what it plans, and one line for what is wrong."""

import pytest
from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import curving, runner


def call(*words):
    """Call the command line in this process."""
    return CliRunner().invoke(app, ["curve", *words], env={"COLUMNS": "200"})


def plan(methods, written="0.05,0.25,1"):
    """Plan a curve under the default protocol."""
    return curving.plan(runner.order(methods, "testbed"), written)


def test_help_says_what_is_drawn():
    """The options are explained, with the fractions that are usual."""
    text = call("--help").stdout
    for words in ("--fractions", "number of pairs", "0.01,0.05,0.1,0.25,1", "drawn as a level"):
        assert words in text


def test_every_method_is_run_at_every_share():
    """Rows are the reference, then each method at rising shares, under their own labels."""
    found = plan("dpo,static_editing", "1,0.05")
    assert [stack.label for stack in found.order.stacks] == [
        "unsteered",
        "dpo(fraction=0.05)",
        "dpo",
        "static_editing(fraction=0.05)",
        "static_editing",
    ]
    assert found.methods["dpo"] == {0.05: "dpo(fraction=0.05)", 1.0: "dpo"}


def test_in_a_stack_the_parts_that_learn_from_pairs_get_less():
    """The share is of the pairs: a part that reads none is left as it is."""
    found = plan("prompting+dpo", "0.1")
    assert found.methods == {"prompting+dpo": {0.1: "prompting+dpo(fraction=0.1)"}}


def test_a_method_without_pairs_is_run_once():
    """It is one row, to be drawn as a level."""
    found = plan("dpo,prompting", "0.1,0.2")
    assert found.methods["prompting"] == {0.0: "prompting"}
    assert [s.label for s in found.order.stacks].count("prompting") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "nosuch"), "unknown method 'nosuch'"),
        (("-m", "dpo", "-f", "0"), "FRACTIONS=0: it must be more than 0 and at most 1"),
        (("-m", "dpo", "-f", "0.1,many"), "FRACTIONS=many"),
        (("-m", "dpo", "-f", ","), "FRACTIONS names no share"),
        (("-m", "prompting"), "none of these rows learns from pairs"),
        (("-m", "dpo(fraction=0.1)"), "a curve sets the fraction itself"),
        (("-m", "dpo", "--bench", "hh"), "unknown benchmark"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    """Each mistake exits with 1 and one line that says what is accepted."""
    result = call(*words, "--output_path", str(tmp_path))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
