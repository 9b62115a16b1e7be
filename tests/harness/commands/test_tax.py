"""The command ``tax``: help, and one line for what is wrong."""

import pytest
from typer.testing import CliRunner

from harness.__main__ import app


def call(*words):
    """Call the command line in this process."""
    return CliRunner().invoke(app, ["tax", *words], env={"COLUMNS": "200"})


def test_help_says_what_tasks_and_methods_may_be():
    """The options are explained, the offline tasks among them."""
    text = call("--help").stdout
    for words in ("--tasks", "--include_path", "testbed_tools", "--chat", "unsteered"):
        assert words in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "nosuch", "-t", "testbed_tools"), "unknown method 'nosuch'"),
        (("-m", "prompting", "-t", " "), "TASKS names no task"),
        (("-m", "prompting", "-t", "testbed_tool"), "Did you mean 'testbed_tools'"),
        (("-m", "prompting", "-t", "testbed_tools", "--limit", "0"), "LIMIT is 0"),
        (("-m", "prompting", "-t", "testbed_tools", "--seed", "1,2"), "takes one number"),
        (("-m", "prompting", "-t", "testbed_tools", "--include_path", "none"), "does not exist"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    """Each mistake exits with 1 and one line that says what is accepted."""
    result = call(*words, "--output_path", str(tmp_path))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
