"""What drawing frontiers would cost: answers to every prompt, less those that are stored."""

import json

import pytest

from harness.conduct import frontiers, runner, store
from harness.conduct.forecast import foretelling, samples
from harness.errors import PlumblineError


def foresee(tiny, results, count=32, limit=3):
    """Predict the frontier of one benchmark's first prompts."""
    order = runner.order("unsteered", tiny, benchmarks="hh_rlhf", limit=limit)
    return samples.foresee(order, store.Store(results), count, say=lambda _: None, device="cpu")


def test_answers_are_counted_in_whole_blocks(tiny, tmp_path):
    """Seventeen answers to a prompt are two blocks of sixteen; nothing is drawn."""
    found = foresee(tiny, tmp_path, 17)
    assert [(line.row, line.count, line.left) for line in found.lines] == [
        ("unsteered, 32 answers to a prompt", 96, 96)
    ]
    assert found.seconds > 0
    assert not list(tmp_path.iterdir())


def test_what_is_drawn_already_is_left_out(tiny, tmp_path):
    """More prompts, or more answers, cost what is missing."""
    order = runner.order("unsteered", tiny, benchmarks="hh_rlhf", limit=3)
    frontiers.run(order, store.Store(tmp_path), 32, say=lambda _: None, device="cpu")
    assert [line.left for line in foresee(tiny, tmp_path).lines] == [0]
    assert [line.left for line in foresee(tiny, tmp_path, limit=4).lines] == [32]
    assert [line.left for line in foresee(tiny, tmp_path, 48).lines] == [48]
    (file,) = tmp_path.glob("frontiers/*/hh_rlhf/*/answers.jsonl")
    assert len({json.loads(line)["prompt"] for line in file.read_text().splitlines()}) == 3


def test_too_few_are_refused(tiny, tmp_path):
    """What would stop the drawing stops its forecast."""
    with pytest.raises(PlumblineError, match="SAMPLES is 8"):
        foresee(tiny, tmp_path, 8)


def test_a_line_says_what_is_drawn(tiny, tmp_path):
    """The benchmark, the row and how many."""
    text = "\n".join(foretelling.told(foresee(tiny, tmp_path)))
    assert "unsteered, 32 answers to a prompt" in text
    assert "96 answers" in text
