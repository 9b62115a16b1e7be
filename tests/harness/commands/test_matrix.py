"""The command ``matrix``: help, its dry run, and one line for what is wrong."""

import pytest
from typer.testing import CliRunner

from harness.__main__ import app


def call(*words):
    """Call the command line in this process."""
    return CliRunner().invoke(app, ["matrix", *words], env={"COLUMNS": "200"})


def test_help_says_what_is_run():
    """The options are explained, with the order of a stack."""
    text = call("--help").stdout
    for words in ("--orders", "--dry-run", "prompt x edit x decoding", "the better of its parts"):
        assert words in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "prompting"), "two methods or more"),
        (("-m", "nosuch,prompting"), "unknown method 'nosuch'"),
        (("-m", "prompting+best_of_n,dpo"), "is a stack already"),
        (("-m", "prompting,prompting"), "names a row twice"),
        (("-m", "prompting,best_of_n", "--bench", "hh"), "unknown benchmark"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    """Each mistake exits with 1 and one line that says what is accepted."""
    result = call(*words, "--output_path", str(tmp_path))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_dry_run_lists_every_stack(tmp_path, monkeypatch):
    """Nothing is run; what is not known of the methods is said."""
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path / "cache"))
    words = ("-m", "prompting,best_of_n", "--bench", "hh_rlhf", "--dry-run")
    result = call(*words, "--output_path", str(tmp_path / "results"))
    assert result.exit_code == 0, result.output
    assert "never run, so counted with every other method: prompting, best_of_n" in result.stdout
    assert "prompting+best_of_n" in result.stdout
    assert not (tmp_path / "results").exists()
