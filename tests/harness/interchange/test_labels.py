"""People's verdicts put to the answers of a run, and another tool's."""

import json
from pathlib import Path

import pytest
from test_interchange_alpaca import command, only_run, rows, written
from typer.testing import CliRunner

from harness.__main__ import app
from harness.interchange.stored import read_run


@pytest.fixture
def judged(tmp_path):
    """Import forty judged answers as a row; give its folder and its annotations, exported."""
    records = rows(40, annotator="somebody")
    for record in records:
        record["preference"] = record["preference"] or 1
    assert command("import", written(tmp_path / "a.json", records), results=tmp_path / "r")[0] == 0
    run = only_run(tmp_path / "r")
    words = ["export", str(run.folder), "--format", "alpaca_eval", "--to", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 0
    (path,) = (tmp_path / "out").rglob("annotations.json")
    return run.folder, json.loads(path.read_text())


def put(tmp_path, folder, records):
    """Put annotations to a run; give the exit code and all that was printed on one line."""
    code, said = command(
        "import", written(tmp_path / "people.json", records), "--run", folder, results=tmp_path
    )
    return code, " ".join(said.split())


def test_peoples_verdicts_become_the_labels_win_rates_are_corrected_by(judged, tmp_path):
    """A slice that people labelled, exported and back, corrects the judge's win rate."""
    folder, records = judged
    people = [r | {"annotator": "human (two of us)", "preference": 2} for r in records[:20]]
    code, said = put(tmp_path, folder, people)
    assert code == 0, said
    assert "20 label" in said
    found = read_run(folder).scores["label"]
    assert {s.value for s in found.values()} == {1.0}
    page = (tmp_path / "r" / "tables" / "external" / "alpaca_eval.md").read_text()
    assert "Can somebody be believed" in page
    assert "by people" in page


def test_another_judges_verdicts_become_a_column(judged, tmp_path):
    """The answers stay; a second judge stands beside the first."""
    folder, records = judged
    code, said = put(tmp_path, folder, [r | {"annotator": "other/judge"} for r in records])
    assert code == 0, said
    assert set(read_run(folder).scores) == {"win_rate@somebody", "win_rate@other-judge"}


def test_without_ids_answers_are_found_by_their_instruction(judged, tmp_path):
    """Upstream's own annotations have no ids."""
    folder, records = judged
    bare = [{k: v for k, v in r.items() if k not in ("id", "turn")} for r in records]
    assert put(tmp_path, folder, [r | {"annotator": "human"} for r in bare])[0] == 0
    assert len(read_run(folder).scores["label"]) == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "x"}, "judges 1 items (x) that the run does not answer"),
        ({"output_2": "something else"}, "whose output_2 is not the run's answer"),
        ({"preference": 7}, "preference 1 is 7"),
    ],
)
def test_verdicts_on_other_answers_are_refused(judged, tmp_path, change, message):
    """What does not fit is named, and nothing is written."""
    folder, records = judged
    people = [r | {"annotator": "human"} for r in records]
    code, said = put(tmp_path, folder, [people[0] | change, *people[1:]])
    assert (code, message in said) == (1, True)
    assert not Path(folder, "scores.label.jsonl").exists()


def test_one_answer_is_judged_once(judged, tmp_path):
    """A repeated verdict is refused."""
    folder, records = judged
    people = [r | {"annotator": "human"} for r in records[:1] * 2]
    code, said = put(tmp_path, folder, people)
    assert (code, "more than once" in said) == (1, True)


def test_only_annotations_are_put_to_a_run(judged, tmp_path):
    """Answers would be another row."""
    folder, _ = judged
    code, said = put(tmp_path, folder, [{"instruction": "Do 0.", "output": "x"}])
    assert (code, "takes AlpacaEval's annotations" in said) == (1, True)
