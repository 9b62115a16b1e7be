"""The aligned model's row: it answers as that model does by itself, and leaves the policy be."""

import pytest

from harness.chat import Chat
from harness.contracts.method import Fitted, Kit
from harness.engine.decoding import Job, decode
from harness.engine.sampling import Sampling
from harness.engine.tiny import tiny_model
from harness.errors import PlumblineError
from methods.aligned import Aligned

QUESTIONS = ("How do I bake bread?", "What?", "Tell me about the sea.")


def answers(model, steering=None):
    """Sample an answer to each question."""
    how = Sampling(max_new_tokens=6)
    jobs = [Job(f"p{i}", Chat.of(text), how) for i, text in enumerate(QUESTIONS)]
    return {d.job: d.tokens for batch in decode(model, jobs, steering, seed=2) for d in batch}


def steering(policy, other):
    """Steer the policy to the other."""
    return Aligned().steer(Kit(policy, models={"aligned": other}), Fitted())


def test_the_row_is_the_aligned_models_own():
    """Under the steering the policy's loop gives the aligned model's answers, token for token."""
    policy, other = tiny_model(0), tiny_model(1)
    before, net = answers(policy), policy.net
    found = answers(policy, steering(policy, other))
    assert found == answers(other)
    assert found != before
    assert policy.net is net
    assert answers(policy) == before


def test_another_template_is_the_aligned_models(make_model):
    """The conversation is laid out as the aligned model lays it out."""
    policy, other = make_model(template="human-assistant"), make_model("mistral", template="vicuna")
    (change,) = steering(policy, other).prompt
    (seen,) = change([Chat.of("hi")])
    assert policy.encode(seen) == other.encode(Chat.of("hi"))


def test_its_end_ends_the_policys_answers():
    """The probability of the aligned model's end token is moved to the policy's."""
    import torch

    policy, other = tiny_model(0), tiny_model(1)
    other.ends = (*other.ends, 9)
    (edit,) = steering(policy, other).logits
    logits = torch.randn(3, policy.vocabulary, generator=torch.Generator().manual_seed(0))
    before, after = logits.softmax(-1), edit(logits, None).softmax(-1)
    torch.testing.assert_close(after[:, policy.ends[0]], before[:, [policy.ends[0], 9]].sum(-1))
    assert not after[:, 9].any()


def test_another_vocabulary_is_refused(make_model):
    """Two vocabularies cannot share a loop."""
    with pytest.raises(PlumblineError, match="different vocabularies"):
        steering(make_model(kind="bytes"), make_model(kind="words"))
