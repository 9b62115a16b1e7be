"""The control rows: what they answer is known beforehand."""

import pytest

from harness.contracts.method import Fitted, Kit
from methods.always_refuse import AlwaysRefuse
from methods.another_seed import AnotherSeed
from methods.command_the_judge import CommandTheJudge
from methods.copy_the_prompt import CopyThePrompt
from methods.verbose_padding import VerbosePadding

FILLER = " and so on"


def texts(model, answer, jobs, method):
    """Give the answers of one method."""
    done = answer(model, jobs, method.steer(Kit(model), Fitted()))
    return [d.text for d in done], done


def test_a_fixed_answer_is_the_same_for_all(llama, make_jobs, answer):
    """Refusals and orders to the judge are said word for word, then the answer ends."""
    jobs = make_jobs(budget=80)
    said, done = texts(llama, answer, jobs, AlwaysRefuse())
    assert set(said) == {AlwaysRefuse().text}
    assert {d.stop for d in done} == {"eos"}
    said, done = texts(llama, answer, jobs, CommandTheJudge())
    assert len(set(said)) == 1
    assert "better" in said[0]


def test_the_prompt_comes_back(llama, make_jobs, answer):
    """Every prompt is answered by its last user turn."""
    jobs = make_jobs(budget=80)
    assert texts(llama, answer, jobs, CopyThePrompt())[0] == [j.chat.last_user for j in jobs]


def test_other_luck_is_other_text_of_the_same_model(llama, make_jobs, answer):
    """Sampled answers differ from the unsteered ones, greedy answers do not."""
    jobs = make_jobs()
    base = [d.text for d in answer(llama, jobs)]
    other, _ = texts(llama, answer, jobs, AnotherSeed())
    assert sum(a != b for a, b in zip(base, other, strict=True)) >= 5
    greedy = make_jobs(temperature=0.0)
    assert texts(llama, answer, greedy, AnotherSeed())[0] == [d.text for d in answer(llama, greedy)]


@pytest.mark.parametrize("special", [True, False])
def test_padding_follows_where_the_answer_would_have_ended(
    llama, make_jobs, answer, special, monkeypatch
):
    """Unsteered answers that end are followed by the filler; an answer is never cut by it."""
    from harness.engine.steering import Steering

    def ends_often(logits, step):
        out = logits.clone()
        out[:, llama.tokenizer.bos_token_id] = float("-inf")  # as a trained model hardly writes it
        out[:, list(llama.ends)] += 6.0
        return out

    jobs = make_jobs(budget=90)
    base = answer(llama, jobs, Steering(logits=(ends_often,)))
    assert {d.stop for d in base} == {"eos"}
    if not special:
        ends = [
            t
            for t in llama.tokenizer.all_special_tokens
            if llama.tokenizer.convert_tokens_to_ids(t) in llama.ends
        ]
        monkeypatch.setattr(
            type(llama.tokenizer),
            "all_special_ids",
            property(lambda self: self.convert_tokens_to_ids(ends)),
        )
    padding = VerbosePadding(filler=FILLER).steer(Kit(llama), Fitted())
    padded = answer(llama, jobs, Steering(logits=(ends_often,)) + padding)
    assert {d.stop for d in padded} == {"eos"}
    assert all(d.text.endswith(FILLER.strip()) for d in padded)
    if special:
        assert [d.text for d in padded] == [(d.text + FILLER).strip() for d in base]
