"""Prompting: what stands before the conversation, and that nothing else changes."""

import pytest

from harness.chat import Chat
from harness.contracts.method import Fitted, Kit, Lab
from harness.errors import PlumblineError
from harness.records import Preference
from methods.prompting import STYLISED, Prompting

PAIRS = [
    Preference(f"p{i}", Chat.of(f"question {i}"), f"good {i}", f"bad {i}", cluster=f"c{i // 2}")
    for i in range(8)
]


def prompted(method, chat, model, fitted=None):
    """Give the conversation as the method lays it out."""
    (laid,) = method.steer(Kit(model), fitted or Fitted()).prompted([chat])
    return laid


def test_the_instruction_is_the_system_turn(llama):
    """The sentence comes first; the user's own system turn and words stay."""
    laid = prompted(Prompting(instruction="Be kind."), Chat.of("hello"), llama)
    assert [(m.role, m.text) for m in laid.messages] == [("system", "Be kind."), ("user", "hello")]
    laid = prompted(Prompting(instruction=""), Chat.of("hello"), llama)
    assert laid == Chat.of("hello")


def test_stylised_examples_are_earlier_turns_and_learn_nothing(llama):
    """Our own examples stand before the conversation, in order, and need no fit."""
    method = Prompting(instruction="", shots=2, examples="stylised")
    assert not method.fits()
    laid = prompted(method, Chat.of("hello"), llama)
    said = [m.text for m in laid.messages]
    assert said == [*STYLISED[0], *STYLISED[1], "hello"]


def test_drawn_examples_are_chosen_answers_of_distinct_clusters(llama):
    """Examples are drawn from the pairs by the fit's seed, one from each cluster at most."""
    method = Prompting(instruction="", shots=3)
    assert method.fits()
    assert not Prompting().fits()
    found = set()
    for seed in range(6):
        fitted = method.fit(Lab(llama, pairs=PAIRS, seed=seed))
        assert fitted == method.fit(Lab(llama, pairs=PAIRS, seed=seed))
        pairs = [tuple(e) for e in fitted.facts["examples"]]
        numbers = [int(q.split()[1]) for q, a in pairs if a.split()[1] == q.split()[1]]
        assert len({n // 2 for n in numbers}) == 3
        assert all(a.startswith("good") for _, a in pairs)
        found.add(tuple(pairs))
        laid = prompted(method, Chat.of("hello"), llama, fitted)
        assert [m.text for m in laid.messages] == [*(t for p in pairs for t in p), "hello"]
    assert len(found) > 1


def test_urial_lays_everything_out_as_fenced_text(llama):
    """Instruction, examples and the conversation are one text that opens the last answer."""
    method = Prompting(instruction="Be kind.", shots=1, examples="stylised", layout="urial")
    chat = Chat.of("first").assistant("one").user("second")
    steering = method.steer(Kit(llama), Fitted())
    (laid,) = steering.prompted([chat])
    (message,) = laid.messages
    question, reply = STYLISED[0]
    assert message.text == (
        "# Instruction\n\nBe kind.\n\n"
        f"# Query:\n```\n{question}\n```\n\n# Answer:\n```\n{reply}\n```\n\n"
        "# Query:\n```\nfirst\n```\n\n# Answer:\n```\none\n```\n\n"
        "# Query:\n```\nsecond\n```\n\n# Answer:\n```\n"
    )
    assert "```" in steering.stop


def test_too_many_examples_are_refused_in_one_line(llama):
    """Negative counts, more stylised examples than there are, too few pairs: each is named."""
    with pytest.raises(PlumblineError, match=r"prompting\.shots is -1"):
        Prompting(shots=-1)
    with pytest.raises(PlumblineError, match="there are 3 stylised examples"):
        Prompting(shots=4, examples="stylised")
    with pytest.raises(PlumblineError, match="hold only 4 usable one-turn examples"):
        Prompting(shots=5).fit(Lab(llama, pairs=PAIRS))
