"""What a child process runs: questions to an endpoint, replies kept in a file, until killed."""

import sys
from pathlib import Path

from harness.conduct.replies import Kept
from harness.contracts.backends import Reply
from harness.contracts.scorer import Answered, Instruments, Pairwise, PairwiseScorer
from harness.judging.endpoint import Endpoint
from harness.judging.openai_backend import OpenAIBackend, Patience
from harness.records import Prompt, Response

sys.path.insert(0, str(Path(__file__).parent))

from faulty_server import MODEL

from harness.chat import Chat

TEMPLATE = "{{ question }} A: {{ answer_a }} B: {{ answer_b }}"
TRIES = 4


def parse(words):
    """Read "The verdict is A." and nothing else."""
    said = words.removeprefix("The verdict is ").removesuffix(".")
    return {"A": "A", "B": "B", "C": "tie"}.get(said)


def question(number):
    """Give the words the judge reads for an item."""
    return f"question {number} A: ours {number} B: theirs {number}"


def judge(url, file, concurrency, timeout):
    """Give the backend, its replies kept."""
    patience = Patience(timeout=timeout, tries=TRIES, pause=0.002)
    asked = OpenAIBackend(MODEL, Endpoint(url), concurrency=concurrency, patience=patience)
    return Kept(asked, Path(file), {"model": MODEL})


def scores(backend, count):
    """Judge so many pairs, one order each; give the scores."""
    scorer = PairwiseScorer(
        Instruments(backends={"j": backend}), "j", Pairwise(TEMPLATE, parse, "one", swap=False)
    )
    items = []
    for i in range(count):
        prompt = Prompt(str(i), Chat.of(f"question {i}"))
        items.append(Answered(prompt, prompt.chat, Response(str(i), 0, f"ours {i}", (1,), "eos")))
    return scorer.score(items, {(str(i), 0): f"theirs {i}" for i in range(count)})


if __name__ == "__main__":
    url, file, count, concurrency, timeout = sys.argv[1:]
    assert Reply  # the child is whole
    scores(judge(url, file, int(concurrency), float(timeout)), int(count))
