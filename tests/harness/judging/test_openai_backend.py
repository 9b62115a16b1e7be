"""An endpoint on a real socket, asked by the real client."""

import asyncio
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from faulty_server import MODEL, completion

from harness.chat import Chat
from harness.errors import PlumblineError
from harness.judging.endpoint import Endpoint
from harness.judging.openai_backend import IN_A_ROW, PROBE, OpenAIBackend, Patience, Prices
from harness.ledger import Ledger

QUICK = Patience(timeout=5.0, tries=3, pause=0.001)
KEY = "sk-very-secret"


def backend(server, model=MODEL, key=KEY, patience=QUICK, **more):
    """Give a backend of a server."""
    where = Endpoint(server.url, key, "TEST_URL")
    return OpenAIBackend(model, where, patience=patience, **more)


def echo(handler, body, count):
    """Repeat the question."""
    handler.send(200, completion(body["messages"][-1]["content"]))


def refusing(status, message, **error):
    """Make a server's answer to everything an error."""

    def answer(handler, body, count):
        handler.send(status, {"error": {"message": message, **error}})

    return answer


def test_replies_are_in_order_and_handed_over_as_they_come(server):
    """Position and reply belong together, and what was paid is written down."""
    told = {}
    chats = [Chat.of(f"q{i}", system="be brief") for i in range(30)]
    there = server(decide=echo)
    replies = backend(there).ask(chats, max_tokens=7, arrived=told.setdefault)
    assert [r.text for r in replies] == [f"q{i}" for i in range(30)]
    assert [told[i] for i in range(30)] == list(replies)
    assert {(r.tokens_in, r.tokens_out, r.served, r.stop) for r in replies} == {
        (10, 2, "judge-1-2026", "stop")
    }
    _, body, headers = there.requests[0]
    assert body["model"] == MODEL
    assert (body["max_tokens"], body["temperature"]) == (7, 0.0)
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    assert headers["authorization"] == f"Bearer {KEY}"
    assert backend(there).ask([], max_tokens=1) == []


def test_half_a_character_is_no_obstacle(server):
    """What a model wrote is sent, whatever it is."""
    (reply,) = backend(server(decide=echo)).ask([Chat.of("a\ud800b")], max_tokens=1)
    assert reply.text == "a?b"


def test_no_more_requests_are_in_flight_than_allowed(server):
    """Concurrency is bounded, and used."""

    def slow(handler, body, count):
        time.sleep(0.02)
        echo(handler, body, count)

    there = server(decide=slow)
    backend(there, concurrency=3).ask([Chat.of(str(i)) for i in range(30)], max_tokens=1)
    assert there.busiest == 3


def test_money_is_counted(server):
    """Tokens of questions and replies at their prices, on the ledger of the moment."""
    judge = backend(server(decide=echo), prices=Prices(1.0, 100.0))
    ledger = Ledger()
    with judge.metered(ledger):
        judge.ask([Chat.of("a"), Chat.of("b")], max_tokens=1)
    assert ledger.tokens == {"judge": 24}
    assert ledger.forwards == {"judge": 2}
    assert ledger.dollars == {"judge": pytest.approx(2 * (10 * 1.0 + 2 * 100.0) / 1e6)}
    judge.ask([Chat.of("c")], max_tokens=1)
    assert ledger.tokens == {"judge": 24}


def test_retry_after_is_honoured_by_everybody(server):
    """No request is made before the time the endpoint names."""
    times = []

    def limited(handler, body, count):
        times.append(time.monotonic())
        if len(times) == 1:
            handler.send(429, {"error": {"message": "slow down"}}, Retry_After="0.4")
        else:
            echo(handler, body, count)

    (reply,) = backend(server(decide=limited)).ask([Chat.of("a")], max_tokens=1)
    assert reply.text == "a"
    assert times[1] - times[0] >= 0.4


def test_a_wait_without_end_gives_the_question_up(server):
    """An endpoint that asks for an hour does not get it; the reply says what it said."""

    def limited(handler, body, count):
        handler.send(429, {"error": {"message": "come back later"}}, Retry_After="3600")

    there = server(decide=limited)
    told = {}
    with pytest.raises(PlumblineError, match="429: come back later"):
        backend(there).ask([Chat.of("a")], max_tokens=1, arrived=told.setdefault)
    assert told[0].outcome == "failed"
    assert told[0].error == "429: come back later (after 1 requests)"


def _takes(server, rule):
    """Give a server that refuses what ``rule`` finds in a body, and whether logprobs came."""

    def answer(handler, body, count):
        message = rule(body)
        if message:
            handler.send(400, {"error": {"message": message, "type": "invalid_request_error"}})
        else:
            said = completion("yes")
            if body.get("logprobs"):
                top = [{"token": "no", "logprob": -2.0, "bytes": None},
                       {"token": "yes", "logprob": -0.2, "bytes": None}]  # fmt: skip
                said["choices"][0]["logprobs"] = {
                    "content": [{**top[1], "top_logprobs": top[::-1]}], "refusal": None
                }  # fmt: skip
            handler.send(200, said)

    return server(decide=answer)


@pytest.mark.parametrize(
    ("rule", "absent", "present", "note"),
    [
        (lambda b: "max_tokens" in b and "Unsupported parameter: 'max_tokens' is not supported "
         "with this model. Use 'max_completion_tokens' instead.",
         "max_tokens", "max_completion_tokens", "max_completion_tokens is sent for max_tokens"),
        (lambda b: "temperature" in b and "Unsupported value: 'temperature' does not support 0 "
         "with this model. Only the default (1) value is supported.",
         "temperature", "max_tokens", "the endpoint takes no temperature: its own is used"),
        (lambda b: "logprobs" in b and "You are not allowed to request logprobs from this model",
         "logprobs", "temperature", "the endpoint gives no log-probabilities"),
        (lambda b: b["messages"][0]["role"] == "system" and "System role not supported",
         "", "max_tokens", "the model takes no system turn: it is put before the question"),
    ],
)  # fmt: skip
def test_what_an_endpoint_does_not_take_is_asked_otherwise_and_noted(
    server, rule, absent, present, note
):
    """One refusal teaches the words; no question is lost over it, and the change is said."""
    there = _takes(server, rule)
    judge = backend(there)
    chats = [Chat.of(f"q{i}", system="be brief") for i in range(5)]
    replies = judge.ask(chats, max_tokens=9, logprobs=2)
    assert {(r.text, r.outcome) for r in replies} == {("yes", "ok")}
    assert judge.notes == {note: 1}
    assert len(there.requests) == 6
    _, body, _ = there.requests[-1]
    assert absent not in body
    assert present in body
    if "system" in note:
        # Requests in flight together arrive in any order.
        sent = sorted((b["messages"] for _, b, _ in there.requests[1:]), key=str)
        assert sent == [[{"role": "user", "content": f"be brief\n\nq{i}"}] for i in range(5)]
    expected = None if absent == "logprobs" else ({"no": -2.0, "yes": -0.2},)
    assert replies[-1].logprobs == expected


def test_an_endpoint_that_takes_neither_word_for_the_budget_is_not_asked_for_ever(server):
    """Two refusals that contradict each other end the work with what was said."""

    def rule(body):
        word = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
        return f"Unsupported parameter: {word}"

    there = _takes(server, rule)
    with pytest.raises(PlumblineError, match="400: Unsupported parameter"):
        backend(there).ask([Chat.of("a")], max_tokens=1)
    assert len(there.requests) < 8


@pytest.mark.parametrize(
    "message",
    ["This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
     "'max_tokens' or 'max_completion_tokens' is too large: 900. This model's maximum context "
     "length is 512 tokens"],
)  # fmt: skip
def test_a_question_too_long_fails_alone(server, message):
    """It is not asked again, and the others are answered."""

    def answer(handler, body, count):
        if body["messages"][-1]["content"] == "long":
            handler.send(400, {"error": {"message": message}})
        else:
            echo(handler, body, count)

    there = server(decide=answer)
    replies = backend(there).ask([Chat.of("long"), Chat.of("b")], max_tokens=1)
    assert [r.outcome for r in replies] == ["failed", "ok"]
    assert len(there.requests) == 2


@pytest.mark.parametrize(
    ("change", "outcome", "error"),
    [
        ({"message": {"role": "assistant", "content": None, "refusal": "I can't\nhelp."}},
         "refused", "I can't help."),
        ({"finish_reason": "content_filter"}, "refused", "content filter"),
        ({"message": {"role": "assistant", "content": ""}, "finish_reason": "length"},
         "failed", "nothing was said: the budget of tokens ran out"),
        ({"message": {"role": "assistant", "content": "<think>A seems"}, "finish_reason": "length"},
         "failed", "nothing was said: the budget of tokens ran out"),
        ({"message": {"role": "assistant", "content": "<think>A?</think>\nB"}}, "ok", ""),
    ],
)  # fmt: skip
def test_a_reply_that_says_nothing_says_why(server, change, outcome, error):
    """Refusals, empty replies and thinking cut off are told apart, and never asked again."""

    def answer(handler, body, count):
        said = completion("A")
        said["choices"][0] |= change
        handler.send(200, said)

    there = server(decide=answer)
    (reply,) = backend(there).ask([Chat.of("a")], max_tokens=1)
    assert (reply.outcome, reply.error) == (outcome, error)
    assert reply.text == ("B" if outcome == "ok" else "")
    assert len(there.requests) == 1
    assert reply.tokens_in == 10


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, {"message": "The model 'judge-9' does not exist", "code": "model_not_found"},
         "404: The model 'judge-9' does not exist; is there a model 'judge-9'"),
        (401, {"message": f"Incorrect API key provided: {KEY}."},
         r"401: Incorrect API key provided: \[hidden\].; the key is wrong"),
        (429, {"message": "You exceeded your quota", "code": "insufficient_quota"}, "429: You exc"),
        (403, {"message": "Country not served"}, "403: Country"),
    ],
)  # fmt: skip
def test_what_would_fail_for_every_question_stops_with_one_line(server, status, error, words):
    """One request is made; the line names the judge, where it is and what it said, without key."""
    there = server(decide=refusing(status, **error))
    with pytest.raises(PlumblineError, match=words) as caught:
        backend(there, model="judge-9").ask([Chat.of(str(i)) for i in range(9)], max_tokens=1)
    assert len(there.requests) == 1
    line = str(caught.value)
    assert line.startswith(f"judge judge-9 at {there.url} (from TEST_URL): ")
    assert "\n" not in line
    assert KEY not in line


def test_nobody_at_the_url_stops_with_one_line(server):
    """A refused connection is tried a few times only."""
    there = server(decide=echo)
    there.shutdown()
    there.server_close()
    start = time.monotonic()
    with pytest.raises(PlumblineError, match=r"judge judge-1 at http://127\.0\.0\.1:"):
        backend(there).ask([Chat.of("a"), Chat.of("b")], max_tokens=1)
    assert time.monotonic() - start < 5


def test_an_endpoint_that_dies_midway_stops_the_work_and_keeps_what_came(server):
    """After so many questions given up in a row nobody is asked any more."""
    told = {}

    def dying(handler, body, count):
        if len(told) < 10:
            echo(handler, body, count)
        else:
            handler.send(500, {"error": {"message": "down"}})

    there = server(decide=dying)
    with pytest.raises(PlumblineError, match=r"gave no reply to several questions.*500: down"):
        backend(there, concurrency=2).ask(
            [Chat.of(str(i)) for i in range(500)], max_tokens=1, arrived=told.setdefault
        )
    assert sum(r.outcome == "ok" for r in told.values()) >= 10
    assert len(there.requests) < 10 + 3 * (IN_A_ROW + 4)


def test_questions_that_fail_alone_stop_nothing(server):
    """A few questions no endpoint could answer are failed; a simple one shows that it is there."""

    def poisoned(handler, body, count):
        if body["messages"][-1]["content"].startswith("poison"):
            handler.send(500, {"error": {"message": "oops"}})
        else:
            echo(handler, body, count)

    there = server(decide=poisoned)
    chats = [Chat.of(f"poison {i}") for i in range(2 * IN_A_ROW)]
    replies = backend(there).ask(chats, max_tokens=1)
    assert {(r.outcome, r.error) for r in replies} == {("failed", "500: oops (after 3 requests)")}
    asked = Counter(question for question, _, _ in there.requests)
    assert asked[PROBE] in (1, 2, 3)


def test_a_web_page_at_the_url_is_told_as_one(server):
    """A URL without its /v1 usually answers 404 with a page; the line says what to look at."""

    def page(handler, body, count):
        handler.send(404, b"<html><body>Not found</body></html>")

    with pytest.raises(PlumblineError, match="404: a web page, not an answer; is there a model"):
        backend(server(decide=page)).ask([Chat.of("a")], max_tokens=1)


def test_a_notebook_may_ask(server):
    """Inside a running event loop the questions are asked just the same."""
    judge = backend(server(decide=echo))

    async def cell():
        return judge.ask([Chat.of("a")], max_tokens=1)

    (reply,) = asyncio.run(cell())
    assert reply.text == "a"

    async def wrong():
        return backend(SimpleNamespace(url="http://127.0.0.1:9/v1")).ask(
            [Chat.of("a")], max_tokens=1
        )

    with pytest.raises(PlumblineError, match=r"127\.0\.0\.1:9"):
        asyncio.run(wrong())
