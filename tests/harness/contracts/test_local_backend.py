"""A model of our own as the one who answers a judge's questions."""

import pytest

from harness.chat import Chat
from harness.contracts.local_backend import LocalBackend
from harness.engine.decoding import Job
from harness.engine.sampling import Sampling


def test_answers_are_greedy_and_in_order(llama, answer):
    """Each reply is what greedy decoding says to that conversation."""
    chats = [Chat.of(text) for text in ("hello there", "a", "What is the time?")]
    how = Sampling(temperature=0, max_new_tokens=8)
    expected = [d.text for d in answer(llama, [Job("x", c, how) for c in chats])]
    replies = LocalBackend(llama).ask(chats, max_tokens=8)
    assert [r.text for r in replies] == expected
    assert {r.outcome for r in replies} == {"ok"}


def test_equal_questions_are_asked_once(llama):
    """A repeated conversation costs nothing and gets the same reply."""
    chat = Chat.of("hello")
    backend = LocalBackend(llama, name="judge", batch_rows=2)
    backend.ask([chat], max_tokens=5)
    once = llama.ledger.tokens["policy"]
    replies = backend.ask([chat, chat, chat], max_tokens=5)
    assert llama.ledger.tokens["policy"] == 2 * once
    assert len(set(replies)) == 1
    assert backend.name == "judge"
    assert LocalBackend(llama).name == llama.name


def test_a_question_too_long_fails_and_the_others_do_not(llama):
    """The reply says how long it was; nothing is cut."""
    chats = [Chat.of("a"), Chat.of("word " * 200), Chat.of("b")]
    replies = LocalBackend(llama).ask(chats, max_tokens=5)
    assert [r.outcome for r in replies] == ["ok", "failed", "ok"]
    assert replies[1].text == ""
    size = len(llama.encode(chats[1])) + 5
    assert replies[1].error == f"{size} tokens do not fit the judge's context of 160"


def test_a_failure_is_a_reply(llama):
    """A model that gives NaN fails its questions, and raises nothing."""
    head = llama.net.get_output_embeddings()
    handle = head.register_forward_hook(lambda m, a, out: out * float("nan"))
    try:
        replies = LocalBackend(llama).ask([Chat.of("a"), Chat.of("b")], max_tokens=5)
    finally:
        handle.remove()
    assert [r.outcome for r in replies] == ["failed", "failed"]
    assert "NaN" in replies[0].error


def test_nothing_asked_is_nothing_answered(llama):
    """No conversations, no replies."""
    assert list(LocalBackend(llama).ask([], max_tokens=5)) == []


@pytest.mark.parametrize("batch_rows", [1, 3])
def test_the_batch_size_changes_no_reply(llama, batch_rows):
    """Replies do not depend on how many are asked at once."""
    chats = [Chat.of("word " * n) for n in range(1, 6)]
    one = LocalBackend(llama).ask(chats, max_tokens=6)
    assert list(LocalBackend(llama, batch_rows=batch_rows).ask(chats, max_tokens=6)) == list(one)


def test_replies_are_handed_over_as_they_come(llama):
    """Each position is told its reply once, equal questions included, before ask returns."""
    chats = [Chat.of("a"), Chat.of("b c d"), Chat.of("a")]
    told = {}
    replies = LocalBackend(llama, batch_rows=1).ask(chats, max_tokens=3, arrived=told.setdefault)
    assert [told[i] for i in range(3)] == list(replies)


def test_a_sample_depends_on_the_question_and_the_draw_alone(llama):
    """Order and company change no sample; another draw does."""
    chats = [Chat.of(f"question {n}") for n in range(4)]
    backend = LocalBackend(llama)

    def texts(some, draw=0):
        said = backend.ask(some, max_tokens=12, temperature=1.0, draw=draw)
        return [r.text for r in said]

    assert texts(chats[::-1])[::-1] == texts(chats)
    assert texts(chats[2:3]) == texts(chats)[2:3]
    assert texts(chats, draw=1) != texts(chats)


def test_logprobs_are_those_of_the_tokens_that_were_drawn(llama):
    """A greedy reply's token is the likeliest of its mapping, and each mapping has as many."""
    (reply,) = LocalBackend(llama).ask([Chat.of("hello")], max_tokens=4, logprobs=5)
    assert reply.logprobs is not None
    assert len(reply.logprobs) == reply.tokens_out
    for step in reply.logprobs:
        assert 1 <= len(step) <= 5
        assert all(value <= 0 for value in step.values())
    said = "".join(max(step, key=step.__getitem__) for step in reply.logprobs)
    assert said.startswith(reply.text)
    assert LocalBackend(llama).ask([Chat.of("hello")], max_tokens=4)[0].logprobs is None
