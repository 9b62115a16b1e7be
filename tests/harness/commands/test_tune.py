"""The command ``tune``, and ``--fields`` of ``bench``: help, and one line for what is wrong."""

import pytest
from typer.testing import CliRunner

from harness.__main__ import app


def call(*words):
    """Call the command line in this process."""
    return CliRunner().invoke(app, [*words], env={"COLUMNS": "200"})


def test_help_says_what_is_equal_and_what_is_not_read():
    """The options are explained, with what every method is given."""
    text = call("tune", "--help").stdout
    for words in ("--trials", "--objective", "--prompts", "same number of trials", "reward@kl<=4"):
        assert words in text
    assert "--fields" in call("bench", "--help").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tune", "-m", "nosuch"), "unknown method 'nosuch'"),
        (("tune", "-m", "best_of_n", "--trials", "0"), "TRIALS is 0; it must be at least 1"),
        (("tune", "-m", "best_of_n(n=4)"), "names fields of its own"),
        (("tune", "-m", "best_of_n", "--objective", "gold"), "OBJECTIVE is 'gold'"),
        (("tune", "-m", "best_of_n", "--seed", "1,2"), "SEED names 2 seeds"),
        (("tune", "-m", "best_of_n", "-p", "nosuch"), "unknown protocol"),
        (("bench", "-m", "best_of_n", "--fields", "tuneed"), "Did you mean 'tuned'?"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    """Each mistake exits with 1 and one line that says what is accepted."""
    result = call(*words, "--output_path", str(tmp_path))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
