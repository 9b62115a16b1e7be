"""The commands about judges and rows side by side: their faults are one line, the path is last."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.__main__ import app

sys.path.insert(0, str(Path(__file__).parent / "report"))
from toystore import run_spec, wave, write_run


def call(*words):
    """Call the command line in this process; give exit code, stdout and stderr."""
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def labels(path, *letters):
    """Write a small label file."""
    items = [{"question": "q", "answer_a": "x", "answer_b": "y", "label": one} for one in letters]
    path.write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--judge", "nobody"), "unknown judge 'nobody'"),
        (("--judge", "testbed_pairwise", "--protocol", "planted"), "[judging]"),
        (("--judge", "testbed_pairwise", "--protocol", "nothing"), "unknown protocol 'nothing'"),
        (("--judge", "testbed_pairwise", "--sets", "nowhere.jsonl"), "nowhere.jsonl: no such file"),
    ],
)
def test_calibrate_refuses_in_one_line(words, said, tmp_path):
    """A judge, a protocol or a file that is not there; nothing is built or loaded for it."""
    code, _, err = call("calibrate", *words, "--output_path", tmp_path)
    assert code == 1
    assert err.startswith("error: ")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_calibration_set_with_one_class_only_is_refused(tmp_path):
    """Where every label is the same agreement says nothing, and the line says why."""
    file = labels(tmp_path / "one.jsonl", "A", "A", "A")
    code, _, err = call("calibrate", "--judge", "testbed_pairwise", "--sets", file)
    assert code == 1
    assert "one: all 3 labels are 'A'" in err
    assert "both A and B win" in err


def stored(results):
    """Write two toy rows."""
    for method, shift in (("unsteered", 0.0), ("prompting", 1.0)):
        write_run(results, run_spec("hh_rlhf", method), {"gold": wave(9, shift)}, prompts=9)


def test_compare_prints_a_line_a_benchmark_and_the_page_last(tmp_path):
    """Two labels are enough; the last line is a page that exists, its CSV beside it."""
    stored(tmp_path)
    code, out, _ = call("compare", "--a", "prompting", "--b", "unsteered", "--protocol", "toy",
                        "--output_path", tmp_path)  # fmt: skip
    lines = out.strip().splitlines()
    assert code == 0
    assert lines[0].startswith("hh_rlhf  A − B on gold: +1.0")
    page = Path("".join(lines[1:]))
    assert page.is_file()
    assert page.with_suffix(".csv").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--a", "promting", "--b", "unsteered", "--protocol", "toy"), "unknown row of protocol"),
        (("--a", "prompting", "--b", "unsteered", "--protocol", "none"), "no finished run"),
        (("--a", "x/y", "--b", "unsteered", "--protocol", "toy"), "unknown row of protocol"),
    ],
)
def test_compare_refuses_in_one_line(words, said, tmp_path):
    """A label, a protocol or a folder that is not there."""
    stored(tmp_path)
    code, _, err = call("compare", *words, "--output_path", tmp_path)
    assert code == 1
    assert err.startswith("error: ")
    assert said in err
    assert len(err.strip().splitlines()) == 1
