"""``--dry-run``: what a command would run is said, and nothing is run."""

import pytest
from typer.testing import CliRunner

from harness.__main__ import app


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """Give a results folder that is not there, on a machine without any world."""
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (("bench", "-m", "prompting,best_of_n"), {"unsteered", "prompting", "best_of_n"}),
        (
            ("curve", "-m", "static_editing", "-f", "0.1,1"),
            {"unsteered", "static_editing(fraction=0.1)", "static_editing"},
        ),
        (
            ("sweep", "-m", "best_of_n", "--over", "n=2,4,8"),
            {"unsteered", "best_of_n(n=2)", "best_of_n(n=4)", "best_of_n"},
        ),
    ],
)
def test_cells_tokens_and_time_are_said_and_nothing_is_made(words, rows, nothing, tmp_path):
    """Every cell has a line; the last line is what all of it comes to."""
    options = ("--bench", "hh_rlhf", "--limit", "32", "--output_path", str(nothing), "--dry-run")
    result = CliRunner().invoke(app, [*words, *options])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    found = {line.split()[1] for line in lines if line.startswith("hh_rlhf") and "answers" in line}
    assert found == rows
    assert lines[-1].startswith("predicted: tokens judge ")
    assert not nothing.exists()
    assert not (tmp_path / "cache").exists()


def test_the_trials_of_a_tuning_are_said(nothing, tmp_path):
    """Every method's answers to development prompts, and its fits, have a line."""
    words = ("tune", "-m", "best_of_n,static_editing", "--trials", "3", "--prompts", "16")
    result = CliRunner().invoke(app, [*words, "--output_path", str(nothing), "--dry-run"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert sum("48 answers" in line for line in lines) == 2
    assert any(line.split()[:5] == ["dev", "static_editing", "fit", "3", "fits"] for line in lines)
    assert lines[-1].startswith("predicted: tokens policy ")
    assert not nothing.exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bench", "-m", "nosuch"), "unknown method 'nosuch'"),
        (("bench", "-m", "prompting", "--limit", "0"), "LIMIT is 0"),
        (("sweep", "-m", "prompting,best_of_n"), "a sweep takes one row"),
        (("curve", "-m", "prompting"), "none of these rows learns"),
        (("tune", "-m", "best_of_n", "--trials", "0"), "TRIALS is 0"),
        (("frontier", "--samples", "4"), "SAMPLES is 4"),
    ],
)
def test_a_mistake_is_found_as_without_it(words, said, nothing):
    """What would stop the command stops its dry run too, in one line."""
    result = CliRunner().invoke(app, [*words, "--dry-run", "--output_path", str(nothing)])
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
