"""FastChat's parsers and prompts."""

import json

import pytest

from harness.errors import PlumblineError
from harness.judging import fastchat


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Rating: [[8]]", 8.0),
        ("[[7.5]] and then [[2]]", 7.5),
        ("I would say [6].", 6.0),
        ("Rating: 8", None),
        ("$ERROR$", None),
        ("", None),
    ],
)
def test_ratings_are_read_from_brackets(text, found):
    """Double brackets first, then single ones; anything else is no rating."""
    assert fastchat.rating(text) == found


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("A", "B", "model_1"),
        ("B", "A", "model_2"),
        ("tie", "tie", "tie"),
        ("A", "A", "inconsistent"),
        ("tie", "A", "inconsistent"),
        (None, "A", "error"),
    ],
)
def test_two_orders_make_one_verdict(first, second, verdict):
    """Letters stand for places, so one side's winner changes its letter with the order."""
    assert fastchat.together(first, second) == verdict


def prompts_file(folder, **changes):
    """Write a file of one prompt."""
    record = {
        "name": "single-v1",
        "type": "single",
        "system_prompt": "s",
        "prompt_template": "{question} {answer}",
    } | changes
    path = folder / "judge_prompts.jsonl"
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not None}) + "\n")
    return path


def test_a_prompt_without_a_needed_placeholder_is_refused(tmp_path):
    """The prompt and the placeholder are named."""
    path = prompts_file(tmp_path, prompt_template="{question}")
    with pytest.raises(PlumblineError, match=r"single-v1 has no placeholder \{answer\}"):
        fastchat.read_prompts(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    """The line and what it lacks are named; so is a file that is not there."""
    with pytest.raises(PlumblineError, match="line 1 is no judge prompt"):
        fastchat.read_prompts(prompts_file(tmp_path, prompt_template=None))
    with pytest.raises(PlumblineError, match="do not exist"):
        fastchat.read_prompts(tmp_path / "none.jsonl")


def test_braces_in_answers_are_words(tmp_path):
    """Only the template's own placeholders are filled in; a missing one is named."""
    prompt = fastchat.read_prompts(prompts_file(tmp_path))["single-v1"]
    assert prompt.render({"question": "{x}", "answer": "{answer}"}) == "{x} {answer}"
    with pytest.raises(PlumblineError, match="single-v1 needs answer"):
        prompt.render({"question": "q"})
