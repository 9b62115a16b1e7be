"""Prompt edits that let the model write: what they cost is counted, what they leave is noted."""

import json

import pytest

from harness.conduct import runner, store
from harness.conduct.generating import AS_THEY_ARE

WRITES = '''"""Lets the model write a word before each of some conversations."""
from dataclasses import dataclass
from harness.api import Chat, Method, Steering, greedily

@dataclass(frozen=True)
class Writes(Method):
    """Conversations that end in "b" get the model's own word first; the others are left."""

    def steer(self, kit, fitted):
        """Write at most once for a conversation."""
        known = {}

        def edit(chats):
            some = [c for c in chats if c.last_user.endswith("b") and c not in known]
            known.update(zip(some, greedily(kit.model, some, 3), strict=True))
            return [Chat.of("b").assistant("c").user(c.last_user) if c in known else c
                    for c in chats]

        return Steering(prompt=(edit,))
'''


@pytest.fixture(scope="module")
def bench(tiny, tmp_path_factory):
    """Give the function that runs the method and unsteered, again where it is called again."""
    file = tmp_path_factory.mktemp("methods") / "writes.py"
    file.write_text(WRITES, encoding="utf-8")
    results = tmp_path_factory.mktemp("results")

    def run():
        asked = runner.order(str(file), tiny)
        outcome = runner.bench(
            asked,
            store.Store(results),
            say=lambda line: None,
            device="cpu",
            batch_rows=64,
            tables=False,
        )
        assert outcome.failures == []
        return results

    return run


@pytest.fixture(scope="module")
def folders(bench):
    """Give both rows' folders on both benchmarks: benchmark -> (the method's, unsteered's)."""
    results = bench()
    return {
        name: tuple(
            next(results.glob(f"runs/*/{name}/{row}/*/spec.json")).parent
            for row in ("writes", "unsteered")
        )
        for name in ("hh_rlhf", "mt_bench")
    }


def policy_tokens(folder):
    """Give what went through the policy while answers were drawn, and what answers were told."""
    lines = [json.loads(s) for s in (folder / "ledger.jsonl").read_text("utf-8").splitlines()]
    spent = sum(line["tokens"].get("policy", 0) for line in lines if line["phase"] == "decode")
    answers = store.read_lines(folder / "responses.jsonl")
    return spent, sum(answer["cost"]["policy"] for answer in answers)


@pytest.mark.parametrize("benchmark", ["hh_rlhf", "mt_bench"])
def test_what_is_written_before_an_answer_is_on_the_ledger(folders, benchmark):
    """It is not part of an answer's own cost; without writing the two are one."""
    mine, plain = folders[benchmark]
    spent, answers = policy_tokens(mine)
    assert spent > answers
    spent, answers = policy_tokens(plain)
    assert spent == answers


@pytest.mark.parametrize("benchmark", ["hh_rlhf", "mt_bench"])
def test_prompts_that_an_edit_leaves_are_noted(folders, benchmark):
    """Every turn is either edited or counted; a row without edits says nothing."""
    mine, plain = folders[benchmark]
    prompts = store.read_lines(mine / "prompts.jsonl")
    turns = [p["chat"][-1]["content"] for p in prompts] + [t for p in prompts for t in p["turns"]]
    left = sum(not text.endswith("b") for text in turns)
    assert 0 < left < len(turns)
    assert json.loads((mine / "notes.json").read_text("utf-8"))[AS_THEY_ARE] == left
    assert AS_THEY_ARE not in json.loads((plain / "notes.json").read_text("utf-8"))


def test_a_resumed_run_notes_the_whole(folders, bench):
    """What was answered before a run was killed is in its notes too; nothing is asked again."""
    mine, _ = folders["mt_bench"]
    files = [mine / "notes.json", mine / "responses.jsonl"]
    before = [file.read_bytes() for file in files]
    for lost in (mine / "done", *mine.glob("notes*.json")):
        lost.unlink()
    bench()
    assert [file.read_bytes() for file in files] == before
