"""The HH-RLHF reader."""

import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import hh_rlhf
from benchmarks.hh_rlhf import HHRLHF, parse
from harness.api import Chat, PlumblineError
from harness.chat import HUMAN_ASSISTANT
from harness.conduct.sources import load_items

ASKED = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: how?\n\nAssistant:"


def pair(chosen=f"{ASKED} fine", rejected=f"{ASKED} go away", **more):
    """Make a raw pair."""
    return {"chosen": chosen, "rejected": rejected, **more}


def read(*items):
    """Read raw pairs."""
    return HHRLHF().read(items)


def test_the_prompt_ends_before_the_last_answer():
    """Everything before the last labelled assistant turn is asked; the rest is the answer."""
    reading = read(pair())
    (prompt,) = reading.prompts
    assert prompt.chat == Chat.of("hi").assistant("hello").user("how?")
    assert prompt.reference == "fine"
    (preference,) = reading.pairs
    assert (preference.chosen, preference.rejected) == ("fine", "go away")
    assert preference.prompt == prompt.chat
    assert reading.notes == {hh_rlhf.CUT_OFF: 1}


def test_labels_without_a_blank_line_are_words():
    """``Human:`` and ``Assistant:`` inside a turn cut nothing and are counted."""
    said = "\n\nHuman: Human: a\nAssistant: b\n\nAssistant: Assistant: c."
    dialogue = parse(said)
    assert dialogue.prompt == Chat.of("Human: a\nAssistant: b")
    assert dialogue.answer == "Assistant: c."
    assert hh_rlhf.INNER in dialogue.oddities


def test_one_speaker_twice_in_a_row_is_kept_as_two_turns():
    """Consecutive turns of one speaker, and the odd count they make, are kept and counted."""
    dialogue = parse("\n\nHuman: a\n\nHuman: b\n\nAssistant: c")
    assert dialogue.prompt == Chat.of("a").user("b")
    assert set(dialogue.oddities) == {hh_rlhf.CONSECUTIVE, hh_rlhf.ODD}


def test_an_answer_after_an_answer_leaves_an_assistant_turn_last():
    """A prompt may end with the assistant's own turn; it is kept and counted."""
    reading = read(pair(f"{ASKED} a.\n\nAssistant: b.", f"{ASKED} a.\n\nAssistant: c."))
    assert reading.prompts[0].chat.messages[-1].text == "a."
    assert reading.notes[hh_rlhf.ASSISTANT_LAST] == 1


def test_empty_answers_stay_empty_and_are_counted():
    """An empty answer is neither stripped to nothing nor dropped."""
    reading = read(pair(f"{ASKED} ", f"{ASKED} x."), pair(f"{ASKED} y.", f"{ASKED} "))
    assert [p.reference for p in reading.prompts] == ["", "y."]
    assert [(p.chosen, p.rejected) for p in reading.pairs] == [("", "x."), ("y.", "")]
    assert reading.notes[hh_rlhf.EMPTY_CHOSEN] == reading.notes[hh_rlhf.EMPTY_REJECTED] == 1


def test_sides_with_different_prompts_make_no_pair():
    """Such a pair is counted and not trained on; the chosen side's prompt is asked."""
    reading = read(pair(rejected="\n\nHuman: other\n\nAssistant: no."))
    assert reading.pairs == []
    assert reading.prompts[0].chat.last_user == "how?"
    assert reading.notes[hh_rlhf.DIFFER] == 1


def test_identical_sides_make_no_pair():
    """A pair without a difference teaches nothing; it is counted."""
    reading = read(pair(rejected=pair()["chosen"]))
    assert reading.pairs == []
    assert reading.notes[hh_rlhf.SAME] == 1


def test_repeated_prompts_have_ids_of_their_own_and_one_cluster():
    """The second occurrence is kept under another id, in the cluster of the first."""
    reading = read(pair(), pair(chosen=f"{ASKED} well."), pair("\n\nHuman: z\n\nAssistant: z."))
    first, second, other = reading.prompts
    assert len({first.id, second.id, other.id}) == 3
    assert first.cluster == second.cluster != other.cluster
    assert reading.notes[hh_rlhf.REPEATED] == 1


def test_ids_do_not_depend_on_what_stands_before():
    """A prompt's id comes from its words: dropping other items changes nothing."""
    other = pair("\n\nHuman: z\n\nAssistant: z.", "\n\nHuman: z\n\nAssistant: y.")
    assert read(other, pair()).prompts[1].id == read(pair()).prompts[0].id


def test_the_field_task_is_the_cluster():
    """Items of a world say what task they are of; that is their cluster."""
    reading = read(pair(task="clean the oven"))
    assert reading.prompts[0].cluster == reading.pairs[0].cluster == "clean the oven"


@pytest.mark.parametrize(
    ("dialogue", "note"),
    [
        ("Human: a\n\nAssistant: b.", hh_rlhf.IRREGULAR),
        ("\n\nHuman:a\n\nAssistant: b.", hh_rlhf.IRREGULAR),
        ("Be kind.\n\nHuman: a\n\nAssistant: b.", hh_rlhf.PREAMBLE),
        ("\n\nHuman: a\n\nAssistant: b.\n\nHuman: c", hh_rlhf.AFTER),
    ],
)
def test_irregular_dialogues_are_read_and_counted(dialogue, note):
    """A missing blank, words before the first turn, or words after the last answer cost nothing."""
    reading = read(pair(dialogue, dialogue))
    assert reading.prompts[0].chat.last_user == "a"
    assert reading.prompts[0].reference == "b."
    assert reading.notes[note] == 2


@pytest.mark.parametrize(
    "dialogue", ["", "hello", "\n\nHuman: a", "\n\nAssistant: a", "\n\nHuman: \n\nAssistant: b"]
)
def test_without_a_question_or_an_answer_a_pair_is_left_out(dialogue):
    """A side that asks or answers nothing is left out, and counted."""
    reading = read(pair(), pair(chosen=dialogue))
    assert len(reading.prompts) == len(reading.pairs) == 1
    assert reading.notes[hh_rlhf.UNUSABLE] == 1


def test_nothing_usable_is_an_error_that_says_why():
    """A source in which no pair can be used is refused with the counts."""
    with pytest.raises(PlumblineError, match=r"no usable item \(1 pairs with a side"):
        read(pair(chosen=""))


@pytest.mark.parametrize("item", [{"chosen": "x"}, {"chosen": "x", "rejected": 3}])
def test_a_missing_or_wrong_field_is_named(item):
    """The error names the field and the item's place."""
    with pytest.raises(PlumblineError, match=r"item 1: .*field 'rejected'"):
        read(item)


LINE = st.text(st.characters(codec="utf-8"), max_size=20).filter(
    lambda said: not re.search(r"\n\n(Human|Assistant):", said)
)


@given(st.lists(st.tuples(st.booleans(), LINE), max_size=6), LINE, LINE)
def test_parsing_loses_nothing(turns, question, answer):
    """Conversation and answer, rendered in the set's own template, are the dialogue again."""
    label = {True: "\n\nHuman: ", False: "\n\nAssistant: "}
    dialogue = "".join(label[human] + said for human, said in [(True, question), *turns])
    dialogue += label[False] + answer
    parsed = parse(dialogue)
    if parsed is not None:
        assert HUMAN_ASSISTANT.render(parsed.prompt.assistant(parsed.answer)) == dialogue


COUNTS = {
    "harmless-base": {
        "pairs": 2312,
        "prompts": 2310,
        hh_rlhf.DIFFER: 5,
        hh_rlhf.EMPTY_CHOSEN: 4,
        hh_rlhf.CONSECUTIVE: 13,
        hh_rlhf.INNER: 73,
        hh_rlhf.REPEATED: 2,
    },
    "helpful-base": {
        "pairs": 2352,
        "prompts": 2352,
        hh_rlhf.DIFFER: 9,
        hh_rlhf.EMPTY_REJECTED: 4,
        hh_rlhf.CONSECUTIVE: 22,
        hh_rlhf.INNER: 56,
        hh_rlhf.EMPTY_INNER: 2,
    },
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_real_files_are_read_completely(real, name):
    """Every record of the published test file is read, and its known oddities are counted."""
    expected = dict(COUNTS[name])
    pairs, prompts = expected.pop("pairs"), expected.pop("prompts")
    reading = HHRLHF().read(load_items({"file": str(real(f"hh_rlhf/{name}.test.jsonl.gz"))}, None))
    assert len(reading.prompts) == len({p.id for p in reading.prompts}) == pairs
    assert len({p.cluster for p in reading.prompts}) == prompts
    assert len(reading.pairs) == pairs - expected[hh_rlhf.DIFFER]
    assert {note: reading.notes[note] for note in expected} == expected
    for unexpected in (hh_rlhf.UNUSABLE, hh_rlhf.SAME, hh_rlhf.IRREGULAR, hh_rlhf.AFTER):
        assert reading.notes[unexpected] == 0


@pytest.mark.parametrize(("name", "assistant_last"), [("harmless-base", 5), ("helpful-base", 9)])
def test_the_real_dialogues_come_back_exactly(real, name, assistant_last):
    """All 2 x 2,312 and 2 x 2,352 dialogues are rendered again byte for byte.

    The prompt alone, too, is the text up to its last label, but where the turn before the
    answer is the assistant's own.
    """
    exceptions = 0
    with gzip.open(real(f"hh_rlhf/{name}.test.jsonl.gz"), "rt", encoding="utf-8") as lines:
        for line in lines:
            for text in json.loads(line).values():
                parsed = parse(text)
                whole = parsed.prompt.assistant(parsed.answer)
                assert HUMAN_ASSISTANT.render(whole) == text
                cut = text[: text.rindex("\n\nAssistant:")] + "\n\nAssistant:"
                exceptions += HUMAN_ASSISTANT.render(parsed.prompt) != cut
    assert exceptions == assistant_last
