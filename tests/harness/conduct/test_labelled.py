import gzip
import json
from pathlib import Path

import pytest

from harness.chat import Chat
from harness.conduct import labelled
from harness.errors import PlumblineError
from harness.records import Preference

SHARED = Path(__file__).parents[4] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real label files are not here")

LLMBAR = [
    {"id": i, "input": f"q{i}", "output_1": "one", "output_2": "two", "label": 1 + i % 2}
    for i in range(6)
]


def write(path, items):
    """Write a JSONL file."""
    path.write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    return path


def dialogue(question, answer):
    """A dialogue as HH-RLHF writes it."""
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"


def test_llmbar_names_its_winner_by_number(tmp_path):
    """Label 1 is the first output, 2 the second; the set is called after its file."""
    found = labelled.read(write(tmp_path / "natural.jsonl", LLMBAR))
    assert (found.name, found.labels, found.whole) == ("natural", "people", 6)
    assert [pair.label for pair in found.pairs] == [1.0, 0.0] * 3
    assert (found.pairs[0].a, found.pairs[0].b) == ("one", "two")
    assert found.pairs[0].chat.last_user == "q0"


def test_a_preferred_answer_is_not_always_the_first(tmp_path):
    """Chosen and rejected are laid out by a hash, and the label follows the better one."""
    items = [
        {"chosen": dialogue(f"q{i}", f"good {i}"), "rejected": dialogue(f"q{i}", f"bad {i}")}
        for i in range(40)
    ]
    found = labelled.read(write(tmp_path / "hh.jsonl", items))
    assert {pair.label for pair in found.pairs} == {0.0, 1.0}
    for pair in found.pairs:
        assert (pair.a if pair.label else pair.b).startswith("good")
    assert labelled.read(tmp_path / "hh.jsonl") == found


def test_hhh_as_published(tmp_path):
    """Two choices, one labelled 1: that one is better wherever it stands."""
    items = [
        {"input": f"q{i}", "targets": {"choices": ["good", "bad"], "labels": [1, 0]}}
        for i in range(20)
    ]
    found = labelled.read(write(tmp_path / "hhh.jsonl", items))
    assert {pair.label for pair in found.pairs} == {0.0, 1.0}
    assert all((pair.a if pair.label else pair.b) == "good" for pair in found.pairs)


def test_mt_bench_votes_may_tie(tmp_path):
    """The last answers of two conversations, a winner or a tie, one pair a vote."""

    def turns(text):
        return [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]

    items = [
        {"question_id": 81, "conversation_a": turns("x"), "conversation_b": turns("y"), "winner": w}
        for w in ("model_a", "model_b", "tie", "tie (inconsistent)")
    ]
    found = labelled.read(write(tmp_path / "votes.jsonl", items))
    assert [pair.label for pair in found.pairs] == [1.0, 0.0, 0.5, 0.5]
    assert len({pair.id for pair in found.pairs}) == 4
    assert (found.pairs[0].a, found.pairs[0].b) == ("x", "y")


def test_a_set_of_ones_own(tmp_path):
    """Question, two answers and a letter are enough; packed files are read too."""
    items = [
        {"question": "q", "answer_a": "x", "answer_b": "y", "label": label}
        for label in ("A", "B", "tie")
    ]
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(json.dumps(i).encode() + b"\n" for i in items)))
    assert [pair.label for pair in labelled.read(path).pairs] == [1.0, 0.0, 0.5]
    assert labelled.read(path).name == "mine"


@pytest.mark.parametrize(
    ("items", "match"),
    [
        ([{**LLMBAR[0]}, {**LLMBAR[2]}], "x: all 2 labels are 'A'.*both A and B win"),
        ([{**LLMBAR[0], "label": 3}], "line 1: label is '3'; it must be 1, 2"),
        ([{"prompt": "q"}], r"its fields \(prompt\) are those of no set"),
        ([], "no pair in it"),
        ([{**LLMBAR[0], "output_1": None}], "line 1: output_1 must be a text"),
    ],
)
def test_bad_sets_are_one_line(tmp_path, items, match):
    """One class only, an unknown label, unknown fields, nothing, a missing text."""
    with pytest.raises(PlumblineError, match=match):
        labelled.read(write(tmp_path / "x.jsonl", items))


def test_files_are_found_by_name_or_in_the_folder(tmp_path, monkeypatch):
    """A folder stands for its files; without names the cache's folder is looked into."""
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path))
    assert labelled.find([]) == []
    (tmp_path / "labels").mkdir()
    one = write(tmp_path / "labels" / "a.jsonl", LLMBAR)
    (tmp_path / "labels" / "notes.txt").write_text("no set")
    assert labelled.find([]) == labelled.find([str(tmp_path / "labels")]) == [one]
    with pytest.raises(PlumblineError, match="no such file"):
        labelled.find([str(tmp_path / "none.jsonl")])


def test_a_smaller_set_is_drawn_by_name(tmp_path):
    """The first so many by a hash: the same ones whatever the order of the file."""
    there = labelled.read(write(tmp_path / "a.jsonl", LLMBAR)).first(3)
    back = labelled.read(write(tmp_path / "b.jsonl", LLMBAR[::-1])).first(3)
    assert [pair.id for pair in there.pairs] == [pair.id for pair in back.pairs]
    assert (len(there.pairs), there.whole) == (3, 6)
    assert len(there.first(0).pairs) == 3


def test_a_worlds_pairs_are_labelled_by_its_truth():
    """The truth decides, ties included, and not which answer the pair calls chosen."""
    pairs = [Preference(str(i), Chat.of("q"), "x" * i, "x" * (6 - i)) for i in range(6)]
    found = labelled.by_gold("dev", pairs, lambda _, text: {"gold": float(len(text))})
    assert found.labels == "gold"
    for pair in found.pairs:
        assert pair.label == (len(pair.a) > len(pair.b)) + 0.5 * (len(pair.a) == len(pair.b))


@real
@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("judge_calibration/llmbar/llmbar_natural.jsonl.gz", 100),
        ("judge_calibration/llmbar/llmbar_adversarial_neighbor.jsonl.gz", 134),
        ("judge_calibration/llmbar/mt_bench_human_majority_200.jsonl.gz", 200),
        ("judge_calibration/anthropic_cai/hhh_438_pairs.jsonl.gz", 438),
        ("hh_rlhf/harmless-base.test.jsonl.gz", 2312 - 5),
        ("hh_rlhf/helpful-base.test.jsonl.gz", 2352 - 9),
    ],
)
def test_the_published_sets_are_read(file, count):
    """Every pair of the real files; HH-RLHF's without those whose two prompts differ."""
    found = labelled.read(SHARED / file)
    assert len(found.pairs) == count
    share = sum(pair.label for pair in found.pairs) / count
    assert 0.3 < share < 0.7
    assert len({pair.id for pair in found.pairs}) == count
