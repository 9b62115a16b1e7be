"""Two thousand verdicts from an endpoint with 30 % faults, asked by one that is killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from asking import TRIES, judge, question, scores
from faulty_server import (
    OUTCOMES,
    PASSING,
    SHARES,
    dice,
    fault_of,
    paid,
    verdict_of,
)

from harness.chat import Chat
from harness.judging.openai_backend import IN_A_ROW, PROBE

COUNT, CONCURRENCY, TIMEOUT = 2000, 16, 0.5
VALUES = {"A": 1.0, "B": 0.0, "C": 0.5}


def start(server, kept):
    """Start a process that judges everything."""
    script = Path(__file__).with_name("asking.py")
    words = [server.url, kept, COUNT, CONCURRENCY, TIMEOUT]
    return subprocess.Popen(
        [sys.executable, "-I", str(script), *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
    )


def outcome(number):
    """Say what must come of an item."""
    fault, verdict = fault_of(question(number)), verdict_of(question(number))
    return OUTCOMES.get(fault, "tie" if verdict == "C" else "ok")


def test_killed_midway_no_verdict_is_lost_or_made_a_tie_and_little_is_paid_twice(server, tmp_path):
    """Outcomes are those that were injected, whatever was killed; what is kept costs nothing."""
    expected = Counter(outcome(i) for i in range(COUNT))
    assert sum(SHARES.values()) == 30
    assert set(expected) == {"ok", "tie", "unparsed", "failed", "refused"}
    bill, kept = tmp_path / "paid", tmp_path / "kept.jsonl"
    there = server(paid=bill, patience=TIMEOUT)

    child = start(there, kept)
    while sum(paid(bill).values()) < COUNT * 0.4:
        assert child.poll() is None
        time.sleep(0.1)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    time.sleep(2 * TIMEOUT)  # requests the server still had in hand
    before = paid(bill)
    assert sum(before.values()) < COUNT * 0.9
    lines = kept.read_bytes().count(b"\n") - 1
    assert len(before) - CONCURRENCY <= lines <= sum(before.values()) + expected["refused"]
    with kept.open("ab") as file:
        file.write(b'{"key": "half of a li')

    backend = judge(there.url, kept, CONCURRENCY, TIMEOUT)
    made = scores(backend, COUNT)
    assert backend.torn == 0  # it was closed off when the next line was written, and is seen below
    assert [s.prompt for s in made] == [str(i) for i in range(COUNT)]
    assert [s.outcome for s in made] == [outcome(i) for i in range(COUNT)]
    assert Counter(s.outcome for s in made) == expected
    for i, score in enumerate(made):
        good = score.outcome in ("ok", "tie")
        assert score.value == (VALUES[verdict_of(question(i))] if good else None)
    bought = paid(bill)
    answered = [
        i for i in range(COUNT) if outcome(i) != "refused" and fault_of(question(i)) != "down"
    ]
    assert len(bought) == len(answered)
    assert max(bought.values()) <= 2
    assert sum(count - 1 for count in bought.values()) <= CONCURRENCY
    injected = Counter(fault_of(question(i)) for i in range(COUNT))
    assert all(injected[fault] for fault in SHARES)

    there.requests.clear()
    again = judge(there.url, kept, CONCURRENCY, TIMEOUT)
    assert scores(again, COUNT) == made
    assert again.torn == 1
    probes = [asked for asked, _, _ in there.requests if asked == PROBE]
    tried = Counter(asked for asked, _, _ in there.requests if asked != PROBE)
    assert {fault_of(asked) for asked in tried} == {"down"}
    assert len(tried) == injected["down"]
    # a busy machine gives up on a try before the server has read it
    assert max(tried.values()) <= TRIES
    assert len(probes) <= injected["down"] // IN_A_ROW  # the only requests that cost something
    assert sum(paid(bill).values()) - sum(bought.values()) == len(probes)
    assert again.asked == injected["down"]
    assert again.found == COUNT - injected["down"]


def test_passing_faults_pass(server):
    """A question that meets one or two faults is asked again until it is answered."""
    there = server(patience=TIMEOUT)
    backend = judge(there.url, "/dev/null", CONCURRENCY, TIMEOUT).backend
    chats = [Chat.of(question(i)) for i in range(300)]
    replies = backend.ask(chats, max_tokens=5)
    for chat, reply in zip(chats, replies, strict=True):
        fault = fault_of(chat.last_user)
        if fault in PASSING:
            assert reply.outcome == "ok", fault
            assert there.seen[chat.last_user] == 2 + dice("times " + chat.last_user, 2)
