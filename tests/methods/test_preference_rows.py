"""Pairs in token ids: encoded as for decoding, closed by the end of turn, nothing cut unsaid."""

import pytest

from harness.chat import Chat
from harness.contracts.method import Lab
from harness.engine.steering import Steering
from harness.engine.tiny import tiny_model
from harness.errors import PlumblineError
from harness.records import Preference
from methods._preference_rows import rows_of, shuffled_labels, usable


@pytest.fixture(scope="module")
def lab():
    """Give a lab on the tiny model, without pairs."""
    return Lab(tiny_model())


def pair(prompt="What now?", chosen="Gladly.", rejected="No."):
    """Make a pair."""
    return Preference("p", Chat.of(prompt), chosen, rejected)


def test_a_row_is_what_decoding_reads_and_draws(lab):
    """The prompt's ids are the ones decoding starts from; answers end as drawn ones do."""
    (row,), _ = rows_of(lab, [pair()])
    model = lab.model
    assert row.prompt == model.encode(Chat.of("What now?"))
    assert row.chosen == [*model.encode_answer(Chat.of("What now?"), "Gladly."), model.ends[0]]
    assert row.rejected == [*model.encode_answer(Chat.of("What now?"), "No."), model.ends[0]]
    assert model.text(row.chosen) == "Gladly."
    assert row.tokens == 2 * len(row.prompt) + len("Gladly.") + len("No.") + 2


def test_left_neighbours_prompt_the_pairs(lab):
    """Right of a prompt edit, training reads the prompt that decoding will read."""
    left = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    (row,), _ = rows_of(Lab(lab.model, left=left), [pair()])
    assert row.prompt == lab.model.encode(Chat.of("What now?").with_system("Be kind."))


def test_what_is_left_out_is_counted(lab):
    """Identical sides, empty answers and pairs over the limit are counted by reason."""
    long = pair(prompt="word " * 30)
    pairs = [pair(), pair(chosen="No."), pair(rejected=""), long, pair("Why?")]
    rows, dropped = rows_of(lab, pairs, max_length=60)
    assert len(rows) == 2
    assert dropped == {"empty answer": 1, "equal answers": 1, "too long": 1}


def test_a_pair_fits_to_the_token_or_is_left_out_whole(lab):
    """The limit counts prompt, the longer answer and its end; nothing is ever shortened."""
    (row,), _ = rows_of(lab, [pair()])
    size = len(row.prompt) + len(row.chosen)
    assert len(row.chosen) > len(row.rejected)
    assert rows_of(lab, [pair()], size) == ([row], dict.fromkeys(rows_of(lab, [])[1], 0))
    rows, dropped = rows_of(lab, [pair()], size - 1)
    assert (rows, dropped["too long"]) == ([], 1)


def test_the_model_s_own_limit_holds(lab):
    """Without a limit, and with one beyond it, the context of the model is the limit."""
    far = pair(prompt="x" * (lab.model.context + 1))
    for limit in (0, 10 * lab.model.context):
        assert rows_of(lab, [far], limit)[1]["too long"] == 1


def test_nothing_to_learn_from_is_one_line(lab):
    """With no pair left, the error says how many there were and why they went."""
    same = [pair(chosen="No.")] * 3
    with pytest.raises(PlumblineError, match=r"of 3 \(3 equal answers\)"):
        usable(Lab(lab.model, pairs=same), 0, "dpo")
    with pytest.raises(PlumblineError, match="none were given"):
        usable(lab, 0, "dpo")


def test_shuffled_labels_say_nothing(lab):
    """A fair coin of the seed turns rows round, and changes nothing else."""
    rows, _ = rows_of(lab, [pair(f"q{i}?") for i in range(200)])
    tossed = shuffled_labels(rows, 3)
    turned = [a.chosen == b.rejected and a.rejected == b.chosen for a, b in zip(rows, tossed)]  # noqa: B905
    assert 70 < sum(turned) < 130
    assert all(t or a == b for t, a, b in zip(turned, rows, tossed, strict=True))
    assert shuffled_labels(rows, 3) == tossed != shuffled_labels(rows, 4)
