"""The store: atomic, append-only, resumable, and suspicious."""

import json
import os
from pathlib import Path

import pytest

from harness.conduct import store
from harness.conduct.store import StoreError
from harness.records import Response, Score


def answer(i: int, text: str = "words") -> Response:
    """Build a small response."""
    return Response(f"p{i}", 0, text, (1, 2), "eos", {"policy": 3})


def committed(folder: Path, batches: list[list[int]]) -> None:
    """Commit batches of small responses."""
    store.resume(folder)
    for batch in batches:
        pool = [{"prompt": f"p{i}", "turn": 0, "candidate": 0} for i in batch]
        store.commit(folder, [answer(i) for i in batch], pool, {"phase": "decode"})


def test_a_folder_is_named_after_its_spec(tmp_path: Path) -> None:
    """The run's path is readable, and its last part is the hash of its spec."""
    path = store.Store(tmp_path).run("testbed-7c0d1e44b2", "hh_rlhf", "a+b", {"seed": 0})
    assert path.relative_to(tmp_path).parts[:4] == ("runs", "testbed-7c0d1e44b2", "hh_rlhf", "a+b")
    assert path.name == store.digest({"seed": 0})
    assert len(path.name) == 10
    assert store.key({"seed": 0, "about": "other words"}) == path.name
    assert store.digest({"b": 1, "a": 2}) == store.digest({"a": 2, "b": 1})


def test_a_tampered_spec_is_refused(tmp_path: Path) -> None:
    """A spec.json that no longer matches its folder's name is an error, not a run."""
    spec = {"seed": 0}
    folder = store.Store(tmp_path).run("t-0", "b", "m", spec)
    with store.opened(folder, spec):
        pass
    (folder / "spec.json").write_text('{"seed": 1}')
    with pytest.raises(StoreError, match="was changed"), store.opened(folder, spec):
        pass


def test_records_survive_any_characters(tmp_path: Path) -> None:
    """Line separators, emoji and lone surrogates come back as they were written."""
    texts = ["a\nb", "\u2028 x \u0085", "😀", "\ud800 alone", '"quoted"']
    path = tmp_path / "x.jsonl"
    store.append(path, [{"text": text} for text in texts])
    assert [line["text"] for line in store.read_lines(path)] == texts
    path.read_bytes().decode("utf-8")


def test_a_torn_last_line_is_cut_off_and_the_rest_is_kept(tmp_path: Path) -> None:
    """What a kill left half-written goes; every whole line stays."""
    committed(tmp_path, [[0, 1, 2]])
    path = tmp_path / "responses.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    assert [r.prompt for r in store.responses(tmp_path)] == ["p0", "p1"]
    assert list(store.resume(tmp_path)) == [("p0", 0), ("p1", 0)]
    store.append(path, [answer(9).to_json()])
    assert [r.prompt for r in store.responses(tmp_path)] == ["p0", "p1", "p9"]


def test_a_batch_without_its_ledger_line_never_happened(tmp_path: Path) -> None:
    """Responses and pool of an uncommitted batch are cut, so costs are counted once."""
    committed(tmp_path, [[0, 1], [2, 3]])
    store.append(tmp_path / "responses.jsonl", [answer(4).to_json()])
    store.append(tmp_path / "pool.jsonl", [{"prompt": "p4", "turn": 0, "candidate": 0}])
    assert sorted(store.resume(tmp_path)) == [(f"p{i}", 0) for i in range(4)]
    assert len(store.read_lines(tmp_path / "pool.jsonl")) == 4


def test_a_batch_killed_in_its_first_write_is_cut_too(tmp_path: Path) -> None:
    """The very first batch is held to the same rule."""
    store.resume(tmp_path)
    store.append(tmp_path / "responses.jsonl", [answer(0).to_json()])
    assert store.resume(tmp_path) == {}


def test_a_record_written_twice_is_one_record(tmp_path: Path) -> None:
    """Readers see one response per key."""
    committed(tmp_path, [[0], [0]])
    assert len(store.responses(tmp_path)) == 1


def test_a_broken_line_in_the_middle_names_file_and_line(tmp_path: Path) -> None:
    """Damage that no kill can cause is pointed at, not skipped."""
    path = tmp_path / "responses.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 2}\n')
    with pytest.raises(StoreError, match=r"responses\.jsonl, line 2"):
        store.read_lines(path)


def test_atomic_writes_leave_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while replacing leaves the old file, whole, and no temporary one."""
    path = tmp_path / "spec.json"
    store.write_json(path, {"old": True})

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError, match="No space left"):
        store.write_json(path, {"new": True})
    assert store.read_json(path) == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["spec.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    """Appending to a full disk says what and where, and that finished work is kept."""
    (tmp_path / "x.jsonl").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"x\.jsonl: No space left on device.*kept"):
        store.append(tmp_path / "x.jsonl", [{"a": 1}])


def test_a_failed_append_leaves_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fills up half-way the file goes back to what it was."""
    path = tmp_path / "x.jsonl"
    store.append(path, [{"a": 1}])

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError):
        store.append(path, [{"a": 2}])
    assert path.read_text() == '{"a": 1}\n'


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """A file where the results folder should be is named."""
    (tmp_path / "runs").write_text("")
    folder = store.Store(tmp_path).run("t-0", "b", "m", {})
    with pytest.raises(StoreError, match="cannot write"), store.opened(folder, {}):
        pass


def test_the_bodys_own_errors_are_not_disguised(tmp_path: Path) -> None:
    """An OSError raised while the lock is held stays what it is."""
    with pytest.raises(FileNotFoundError), store.locked(tmp_path / ".lock"):
        raise FileNotFoundError("a plugin's own file")


def test_scores_come_back_by_key(tmp_path: Path) -> None:
    """Scores are read as one per (prompt, turn)."""
    score = Score("p", 1, None, "unparsed", {"order_0": 1.0}, "words")
    store.append(tmp_path / "scores.gold.jsonl", [score.to_json()])
    assert store.scores(tmp_path, "gold") == {("p", 1): score}
    assert json.loads((tmp_path / "scores.gold.jsonl").read_text())["outcome"] == "unparsed"
