"""The command ``frontier``: help, and one line for what is wrong."""

import pytest
from typer.testing import CliRunner

from harness.__main__ import app


def call(*words):
    """Call the command line in this process."""
    return CliRunner().invoke(app, ["frontier", *words], env={"COLUMNS": "200"})


def test_help_says_what_is_drawn():
    """The options and what the page holds are explained."""
    text = call("--help").stdout
    for words in ("--samples", "--method", "lower bound", "2, 4", "hypervolume"):
        assert words in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--samples", "8"), "SAMPLES is 8; a frontier needs at least 16 base answers"),
        (("--samples", "0"), "SAMPLES is 0"),
        (("-p", "nosuch"), "unknown protocol 'nosuch'"),
        (("-b", "nosuch"), "unknown benchmark in protocol testbed 'nosuch'"),
        (("-m", "nosuch"), "unknown method 'nosuch'"),
        (("-L", "0"), "LIMIT is 0"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    """Each mistake exits with 1 and one line that says what is accepted."""
    result = call(*words, "--output_path", str(tmp_path))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
