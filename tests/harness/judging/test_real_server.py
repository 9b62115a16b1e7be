"""A server that others wrote, running a tiny model: it says what our own loop says."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from harness.chat import Chat
from harness.conduct.replies import Kept
from harness.contracts.backends import Canned
from harness.contracts.local_backend import LocalBackend
from harness.contracts.scorer import Answered, Instruments, Pairwise, PairwiseScorer
from harness.errors import PlumblineError
from harness.judging.endpoint import endpoint
from harness.judging.openai_backend import OpenAIBackend, Patience
from harness.records import Prompt, Response

MISSING = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING),
    reason=f"`transformers serve` needs {' and '.join(MISSING)}, which this project does not",
)
BUDGET = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model):
    """Store a tiny model as others find it: weights, configuration, tokenizer."""
    place = tmp_path_factory.mktemp("judge")
    model = make_model("llama", template="tokenizer")
    model.net.save_pretrained(place)
    model.tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory):
    """Run `transformers serve` on a free port until the module is done."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    words = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    run = "from transformers.cli.transformers import main; main()"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", run, *words],
            stdout=out,
            stderr=out,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        process.kill()
        process.wait()


def ask(url, model, chats, **how):
    """Ask the server."""
    where = endpoint({"PLUMBLINE_JUDGE_BASE_URL": url})
    backend = OpenAIBackend(str(model), where, patience=Patience(60, 3, 0.1), concurrency=4)
    return backend, backend.ask(chats, **how)


def test_a_real_server_says_what_our_own_loop_says(url, folder):
    """Greedy replies of one model are the same text, however it is run."""
    from harness.engine.model import Model

    chats = [Chat.of(f"question {n}?", system="be brief") for n in range(6)]
    ours = LocalBackend(Model.load(str(folder), device="cpu")).ask(chats, max_tokens=BUDGET)
    backend, theirs = ask(url, folder, chats, max_tokens=BUDGET)
    assert [r.outcome for r in theirs] == [r.outcome for r in ours]
    assert [r.text for r in theirs] == [r.text for r in ours]
    assert [r.tokens_in for r in theirs] == [r.tokens_in for r in ours]
    assert all(0 < r.tokens_out <= BUDGET for r in theirs)
    assert not backend.notes


def test_its_verdicts_are_those_of_our_own_loop(url, folder, tmp_path):
    """Pairs judged in both orders score alike; the replies are kept, and asked for once."""
    from harness.engine.model import Model

    def parse(words):
        return ("A", "B", "tie", None)[sum(words.strip().encode()) % 4]  # our loop strips

    def scored(backend):
        judge = Pairwise("{{ question }} {{ answer_a }} {{ answer_b }}", parse, "one",
                         max_tokens=BUDGET)  # fmt: skip
        prompts = [Prompt(str(n), Chat.of(f"why {n}?")) for n in range(20)]
        items = [Answered(p, p.chat, Response(p.id, 0, f"so {p.id}", (1,), "eos")) for p in prompts]
        scorer = PairwiseScorer(Instruments(backends={"j": backend}), "j", judge)
        return scorer.score(items, {(p.id, 0): "because" for p in prompts})

    where = endpoint({"PLUMBLINE_JUDGE_BASE_URL": url})
    backend = Kept(OpenAIBackend(str(folder), where, concurrency=4), tmp_path / "kept.jsonl", {})
    theirs = scored(backend)
    ours = scored(LocalBackend(Model.load(str(folder), device="cpu")))
    assert [(s.value, s.outcome, s.parts) for s in theirs] == [
        (s.value, s.outcome, s.parts) for s in ours
    ]
    assert len({score.outcome for score in theirs}) > 1
    assert backend.asked == 40
    assert scored(Kept(Canned(lambda chat: "nobody is asked"), backend.path, {})) == theirs


def test_a_model_that_is_not_there_is_one_line(url, tmp_path):
    """Whatever words this server has for an unknown name, the work stops with one line."""
    with pytest.raises(PlumblineError, match=r"judge .*nobody at http://127") as caught:
        ask(url, tmp_path / "nobody", [Chat.of("a")], max_tokens=4)
    assert "\n" not in str(caught.value)
