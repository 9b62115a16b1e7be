"""What tables read is parsed once and kept, until a file of the run changes."""

import json
import os

import pytest
from toystore import run_spec, write_run

from harness.conduct import store
from harness.conduct.store import StoreError
from harness.report import readings
from harness.report.frames import read_run

VALUES = {"gold": [1.0, 0.5, None, 2.0], "reward": [{"value": 1.0, "parts": {"a": 3.0}}] * 4}


@pytest.fixture
def folder(tmp_path):
    """Give a finished run of four prompts whose files were last changed a minute ago."""
    made = write_run(tmp_path, run_spec("hh_rlhf", "prompting"), VALUES, prompts=4)
    return settled(made)


def settled(folder):
    """Date every file of a run back."""
    for path in folder.iterdir():
        stamp = path.stat().st_mtime - 60
        os.utime(path, (stamp, stamp))
    return folder


def parsed(monkeypatch):
    """Count the files of lines that are parsed from here on."""
    read, seen = store.read_lines, []
    monkeypatch.setattr(store, "read_lines", lambda path: seen.append(path.name) or read(path))
    return seen


def test_a_settled_run_is_parsed_once(folder, monkeypatch):
    """The second reading parses no line and gives the same numbers."""
    first = read_run(folder)
    seen = parsed(monkeypatch)
    second = read_run(folder)
    assert seen == []
    assert dict(second.scores["gold"]) == dict(first.scores["gold"])
    assert (second.keys, second.clusters, second.items) == (
        first.keys,
        first.clusters,
        first.items,
    )
    assert second.ledgers == first.ledgers


def test_kept_scores_are_what_the_store_reads(folder):
    """Values, outcomes and parts come back as they were written, missing ones as None."""
    read_run(folder)
    kept = read_run(folder)
    for name in VALUES:
        assert dict(kept.scores[name]) == store.scores(folder, name)


def test_a_new_score_is_seen(folder, monkeypatch):
    """A file that grew, or came to be, has the run parsed again."""
    read_run(folder)
    line = {"prompt": "hh_rlhf-000", "turn": 0, "value": 7.0, "outcome": "ok", "parts": {}}
    (folder / "scores.length.jsonl").write_text(json.dumps(line) + "\n")
    assert read_run(folder).scores["length"]["hh_rlhf-000", 0].value == 7.0


def test_a_value_changed_in_place_is_seen(folder):
    """A change that leaves the size as it was is told by the file's time."""
    read_run(folder)
    path = folder / "scores.gold.jsonl"
    text = path.read_text()
    assert text.count("0.5") == 1
    path.write_text(text.replace("0.5", "0.7"))
    assert read_run(folder).scores["gold"]["hh_rlhf-001", 0].value == 0.7


def test_a_run_still_being_written_keeps_nothing(tmp_path):
    """Files changed a moment ago might change again within one tick of the clock."""
    made = write_run(tmp_path, run_spec("hh_rlhf", "prompting"), VALUES, prompts=4)
    read_run(made)
    assert not (made / readings.NAME).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"form": 0}'])
def test_spoilt_readings_count_for_nothing(folder, content):
    """Whatever stands in the kept file, the run's own files decide."""
    read_run(folder)
    (folder / readings.NAME).write_text(content)
    assert read_run(folder).scores["gold"]["hh_rlhf-000", 0].value == 1.0


def test_a_broken_line_is_an_error_even_beside_kept_readings(folder):
    """A file that was broken after it was read is not hidden by what was kept."""
    read_run(folder)
    with (folder / "scores.gold.jsonl").open("a") as file:
        file.write("{nonsense\n")
    with pytest.raises(StoreError, match=r"scores\.gold\.jsonl, line 5"):
        read_run(folder)
