"""Replies kept by content: who is asked again, and who is not."""

import json
import multiprocessing

import pytest

from harness.chat import Chat
from harness.conduct import store
from harness.conduct.replies import Kept, from_json, to_json
from harness.contracts.backends import Canned, Reply
from harness.ledger import Ledger


class Counting(Canned):
    """Echoes, and remembers what it was asked and how."""

    def __init__(self, answer=lambda chat: chat.last_user):
        super().__init__(answer, name="org/model 7b")
        self.heard = []

    def ask(self, chats, **how):
        """Answer, and remember."""
        self.heard += [(c.last_user, how["max_tokens"]) for c in chats]
        return super().ask(chats, **how)


def kept(tmp_path, backend, **more):
    """Give a backend whose replies are kept in one file."""
    return Kept(backend, tmp_path / "v" / "kept.jsonl", {"model": "m"}, **more)


def chats(*words):
    """Make conversations."""
    return [Chat.of(word) for word in words]


def test_what_was_answered_is_not_asked_again(tmp_path):
    """Order, repetition and company do not matter; a new object reads the old file."""
    backend = Counting()
    first = kept(tmp_path, backend)
    assert [r.text for r in first.ask(chats("a", "b", "a"), max_tokens=5)] == ["a", "b", "a"]
    assert backend.heard == [("a", 5), ("b", 5)]
    second = kept(tmp_path, backend)
    told = {}
    replies = second.ask(chats("b", "c", "a", "c"), max_tokens=5, arrived=told.setdefault)
    assert [r.text for r in replies] == ["b", "c", "a", "c"]
    assert [told[i] for i in range(4)] == list(replies)
    assert backend.heard[2:] == [("c", 5)]
    assert (second.asked, second.found) == (1, 2)
    assert second.name == "org/model 7b"


@pytest.mark.parametrize(
    "how",
    [{"max_tokens": 6}, {"max_tokens": 5, "temperature": 1.0}, {"max_tokens": 5, "logprobs": 2},
     {"max_tokens": 5, "draw": 1}],
)  # fmt: skip
def test_another_setting_is_another_question(tmp_path, how):
    """Every setting that may change a reply is part of its name."""
    backend = Counting()
    one = kept(tmp_path, backend)
    one.ask(chats("a"), max_tokens=5)
    one.ask(chats("a"), **how)
    assert len(backend.heard) == 2


def test_another_system_sentence_or_order_is_another_question(tmp_path):
    """The whole conversation is the question."""
    backend = Counting()
    one = kept(tmp_path, backend)
    one.ask([Chat.of("a"), Chat.of("a", system="s"), Chat.of("b").assistant("x").user("a")],
            max_tokens=5)  # fmt: skip
    assert len(backend.heard) == 3


def test_what_never_came_is_asked_again_and_what_was_paid_for_is_not(tmp_path):
    """A question given up is tried anew; a refusal and an empty reply are answers."""
    said = {
        "gone": Reply("", "failed", "500"),
        "empty": Reply("", "failed", "nothing was said", served="m"),
        "no": Reply("", "refused", "filter"),
    }
    backend = Counting(lambda chat: said[chat.last_user])
    for _ in range(2):
        replies = kept(tmp_path, backend).ask(chats("gone", "empty", "no"), max_tokens=5)
        assert list(replies) == list(said.values())
    assert [word for word, _ in backend.heard] == ["gone", "empty", "no", "gone"]


def test_each_reply_is_on_disk_before_the_next_question(tmp_path):
    """A backend that dies at the third question leaves two replies."""

    def answer(chat):
        if chat.last_user == "c":
            raise KeyboardInterrupt
        return chat.last_user

    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path, Counting(answer)).ask(chats("a", "b", "c"), max_tokens=5)
    backend = Counting()
    kept(tmp_path, backend).ask(chats("a", "b", "c"), max_tokens=5)
    assert [word for word, _ in backend.heard] == ["c"]


def test_a_torn_line_costs_its_own_reply_and_no_other(tmp_path):
    """What a killed process left half written is counted, and asked again."""
    one = kept(tmp_path, Counting())
    one.ask(chats("a", "b"), max_tokens=5)
    content = one.path.read_bytes()
    one.path.write_bytes(content[:-7])
    backend = Counting()
    kept(tmp_path, backend).ask(chats("a", "b", "c"), max_tokens=5)
    assert [word for word, _ in backend.heard] == ["b", "c"]
    third = kept(tmp_path, backend)
    third.ask(chats("a", "b", "c"), max_tokens=5)
    assert len(backend.heard) == 2
    assert third.torn == 1


def test_the_file_says_whose_replies_it_holds(tmp_path):
    """The first line names the backend and what tells it from others."""
    one = kept(tmp_path, Counting())
    one.ask(chats("a"), max_tokens=5)
    header, line = map(json.loads, one.path.read_text().splitlines())
    assert header == {"backend": "org/model 7b", "identity": {"model": "m"}}
    assert line["reply"] == {"text": "a"}
    path = store.Store(tmp_path).verdicts("j", one.name, one.identity)
    assert path.parent == tmp_path / "verdicts" / "j"
    assert path.name.startswith("org-model-7b-")


def test_a_reply_survives_the_file():
    """Everything a reply says is read back, token probabilities too."""
    for reply in (
        Reply("x", logprobs=({"A": -0.5, "B": -1.0}, {}), stop="length", tokens_in=3, served="m"),
        Reply("", "refused", "no"),
        Reply("\ud800 odd"),
    ):
        assert from_json(json.loads(json.dumps(to_json(reply)))) == reply


def test_a_budget_of_its_own_stands_above_the_judges(tmp_path):
    """A model that thinks before it speaks gets the tokens for it."""
    backend = Counting()
    kept(tmp_path, backend, max_tokens=900).ask(chats("a"), max_tokens=5)
    assert backend.heard == [("a", 900)]


def test_costs_pass_through(tmp_path):
    """A backend that counts is counted; one that does not is no error."""
    ledger = Ledger()
    with kept(tmp_path, Counting()).metered(ledger) as given:
        assert given is ledger


def _write(path, start):
    for i in range(start, start + 200):
        Kept(Canned(lambda c: c.last_user * 50), path, {}).ask(chats(str(i)), max_tokens=5)


def test_two_processes_write_one_file(tmp_path):
    """No line is lost or mixed with another."""
    path = tmp_path / "kept.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(path, s)) for s in (0, 100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    backend = Counting()
    found = Kept(backend, path, {})
    replies = found.ask(chats(*map(str, range(300))), max_tokens=5)
    assert [r.text for r in replies] == [str(i) * 50 for i in range(300)]
    assert backend.heard == []
    assert found.torn == 0


def test_what_another_process_wrote_meanwhile_is_seen(tmp_path):
    """Before it asks, a backend reads what has come since its last look."""
    mine, theirs = Counting(), Counting()
    one, other = kept(tmp_path, mine), kept(tmp_path, theirs)
    one.ask(chats("a"), max_tokens=5)
    other.ask(chats("a", "b"), max_tokens=5)
    one.ask(chats("a", "b"), max_tokens=5)
    assert [word for word, _ in mine.heard + theirs.heard] == ["a", "b"]


def test_who_answered_is_noted_where_it_was_not_one_model(tmp_path):
    """A service that changes the model behind a name is found out."""
    names = iter(["m-1", "m-1", "m-2"])
    one = kept(tmp_path, Counting(lambda chat: Reply("x", served=next(names))))
    heard = []
    one.heard = heard.append
    one.ask(chats("a", "b"), max_tokens=5)
    assert one.notes == []
    one.ask(chats("c"), max_tokens=5)
    assert one.notes == ["answered by m-1, m-2"]
    assert heard == [1, 2, 1]
    assert one.served == {"m-1": 2, "m-2": 1}
