"""The reader of honest questions that look harmful."""

import pytest

from benchmarks import benign_qa
from benchmarks.benign_qa import BenignQA
from harness.api import Chat, PlumblineError


def test_questions_become_prompts():
    """The topic is the category; each question is a unit of its own, or its task is."""
    items = [{"question": "How do I kill a process?", "topic": "computers"}, {"question": "Why?"}]
    first, second = BenignQA().read(items).prompts
    assert (first.chat, first.category) == (Chat.of("How do I kill a process?"), "computers")
    assert (second.category, second.cluster) == (None, second.id)
    (only,) = BenignQA().read([items[0] | {"task": "t"}]).prompts
    assert only.cluster == "t"


def test_repeated_and_empty_questions_are_counted():
    """A repeated question is kept in the same cluster; an empty one is left out."""
    read = BenignQA().read([{"question": "a?"}, {"question": "a?"}, {"question": " "}])
    assert len({p.id for p in read.prompts}) == 2
    assert len({p.cluster for p in read.prompts}) == 1
    assert read.notes == {benign_qa.REPEATED: 1, benign_qa.EMPTY: 1}


def test_a_row_without_a_question_is_refused():
    """The field is named."""
    with pytest.raises(PlumblineError, match="no field 'question'"):
        BenignQA().read([{"prompt": "a?"}])
