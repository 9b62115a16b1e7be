"""Greedy decoding against the library's own ``generate``, on every architecture."""

import json

import pytest
import torch

from harness.chat import Chat
from harness.engine.decoding import Job
from harness.engine.model import Model, left_padded
from harness.engine.sampling import Sampling


def generated(model, prompts, budget):
    """Ask the library, prompts left-padded together; answers end with their end token."""
    ids, mask, _ = left_padded(prompts, model.device)
    out = model.net.generate(
        ids,
        attention_mask=mask.long(),
        do_sample=False,
        max_new_tokens=budget,
        eos_token_id=list(model.ends) or None,
        pad_token_id=0,
    )
    answers = []
    for row in out[:, ids.shape[1] :].tolist():
        end = next((i for i, token in enumerate(row) if token in model.ends), len(row) - 1)
        answers.append(tuple(row[: end + 1]))
    return answers


def test_greedy_answers_equal_generate_one_prompt_at_a_time(tiny, make_jobs, answer):
    """Greedy answers of a left-padded batch are the library's for each prompt alone."""
    jobs = make_jobs(temperature=0, budget=16)
    expected = [generated(tiny, [tiny.encode(job.chat)], 16)[0] for job in jobs]
    assert [d.tokens for d in answer(tiny, jobs)] == expected


def test_greedy_answers_equal_generate_on_a_left_padded_batch(tiny, make_jobs, answer):
    """Greedy answers are the library's for the same left-padded batch."""
    jobs = make_jobs(temperature=0, budget=12)
    expected = generated(tiny, [tiny.encode(job.chat) for job in jobs], 12)
    assert [d.tokens for d in answer(tiny, jobs)] == expected


def test_end_tokens_end_answers_where_generate_ends_them(tiny, make_jobs, answer):
    """An answer stops at the first end token, which it keeps, exactly where the library stops."""
    jobs = make_jobs(temperature=0, budget=12)
    free = answer(tiny, jobs)
    tiny.ends = tuple(sorted({free[0].tokens[3], free[4].tokens[6], free[5].tokens[0]}))
    expected = generated(tiny, [tiny.encode(job.chat) for job in jobs], 12)
    found = answer(tiny, jobs)
    assert [d.tokens for d in found] == expected
    assert found[0].stop == "eos"
    assert len(found[5].tokens) == 1


@pytest.mark.parametrize("name", ["mistral-window", "llama"])
def test_a_sequence_longer_than_the_window_and_the_cache_chunk(name, make_model, answer, make_jobs):
    """Answers stay the library's when the sequence outgrows the sliding window and a chunk."""
    model = make_model(name, ends=False)
    jobs = make_jobs(("hello " * 15, "a"), temperature=0, budget=100)
    expected = [generated(model, [model.encode(job.chat)], 100)[0] for job in jobs]
    assert [d.tokens for d in answer(model, jobs)] == expected
    assert len(expected[1]) == 100


def test_the_trained_model_tells_the_known_story(stories, answer):
    """A trained model's greedy story is reproduced to the token, alone and beside another."""
    golden = json.loads((stories / "golden.json").read_text())["greedy_token_ids_from_bos"]
    model = Model.load(str(stories), template="human-assistant")
    how = Sampling(temperature=0, max_new_tokens=len(golden) - 1)
    opening = Chat.verbatim("")
    assert model.encode(opening) == golden[:1]
    jobs = [Job("story", opening, how), Job("other", Chat.verbatim("Tom and his dog were"), how)]
    assert list(answer(model, jobs)[0].tokens) == golden[1:]
    assert list(answer(model, jobs[:1])[0].tokens) == golden[1:]


def test_the_forward_pass_counts_and_gives_float32(llama):
    """One pass returns float32 logits of the positions asked for."""
    ids = torch.tensor([[1, 5, 6]])
    positions = torch.arange(3)[None]
    for keep, size in ((1, 1), (2, 2), (0, 3)):
        logits = llama.forward(ids, mask=None, positions=positions, tokens=3, keep=keep)
        assert logits.shape == (1, size, llama.vocabulary)
        assert logits.dtype == torch.float32
