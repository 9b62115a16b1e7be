"""Properties of best-of-N: what is drawn, what is chosen, what is kept, and what it costs."""

import itertools
import math

import numpy as np
import pytest
import torch

from benchmarks.planted.candidates import best_of, divergence_bound
from benchmarks.planted.tree import divergence, expected
from harness.contracts.method import Fitted, Kit
from harness.engine.density import NoDensity, logprobs, search_bound
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.report.pool import expected_max
from methods.best_of_n import BestOfN


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def steer(n, model, judge):
    """Steer as a run does."""
    return BestOfN(n=n).steer(Kit(model, reward=judge), Fitted())


def test_the_answer_is_the_candidate_of_the_largest_reward(llama, make_jobs, make_reward, answer):
    """Every candidate is kept with its reward, and the best of them is the answer."""
    judge, jobs = make_reward(), make_jobs()
    for job, d in zip(jobs, answer(llama, jobs, steer(6, llama, judge)), strict=True):
        assert len(d.pool) == 6
        scores = judge.score([job.chat] * 6, [c.text for c in d.pool])
        assert [c.score for c in d.pool] == pytest.approx(scores, abs=1e-5)
        assert d.tokens == d.pool[scores.index(max(scores))].tokens


def test_one_candidate_is_plain_sampling(llama, make_jobs, make_reward, answer):
    """At n = 1 it is the model, token for token, and greedy stays greedy."""
    judge = make_reward()
    for temperature in (1.0, 0.0):
        jobs = make_jobs(temperature=temperature)
        found = answer(llama, jobs, steer(1, llama, judge))
        assert tokens(found) == tokens(answer(llama, jobs))


def test_the_first_candidate_is_the_plain_sample(llama, make_jobs, make_reward, answer):
    """Candidates are drawn by luck of their own; number 0 is the unsteered answer."""
    jobs = make_jobs()
    found = answer(llama, jobs, steer(5, llama, make_reward()))
    assert [d.pool[0].tokens for d in found] == tokens(answer(llama, jobs))
    assert all(len({c.tokens for c in d.pool}) > 1 for d in found)


def test_more_candidates_never_have_less_reward(llama, make_jobs, make_reward, answer):
    """Draws are nested, so the chosen reward rises with n for every prompt."""
    judge, jobs = make_reward(), make_jobs()
    best = [
        [max(c.score for c in d.pool) for d in answer(llama, jobs, steer(n, llama, judge))]
        for n in (1, 2, 4, 8)
    ]
    for fewer, more in itertools.pairwise(best):
        assert all(m >= f - 1e-6 for f, m in zip(fewer, more, strict=True))
    assert sum(best[-1]) > sum(best[0])


@pytest.mark.parametrize("change", [lambda r: 3 * r, torch.tanh, lambda r: r - 50])
def test_an_increasing_change_of_the_reward_changes_nothing(
    llama, change, make_jobs, make_reward, answer
):
    """Only the order of rewards counts."""
    judge, jobs = make_reward(), make_jobs()
    same = Steering(search=Search(5, lambda rows: change(judge.of_rows(rows))))
    assert tokens(answer(llama, jobs, same)) == tokens(answer(llama, jobs, steer(5, llama, judge)))


def test_a_constant_reward_answers_with_the_plain_sample(llama, make_jobs, answer):
    """Ties go to the first candidate."""

    class Constant:
        of_rows = staticmethod(lambda rows: torch.ones(len(rows)))

    jobs = make_jobs()
    found = answer(llama, jobs, steer(4, llama, Constant()))
    assert tokens(found) == tokens(answer(llama, jobs))


@pytest.mark.parametrize("n", [2, 5])
def test_on_the_enumerable_world_law_reward_and_divergence_are_exact(enumerated, kindness, n):
    """Its law by enumeration is the closed form; the reward rises and KL stays in its bound."""

    class Kind:
        @staticmethod
        def of_rows(rows):
            return torch.tensor([kindness(None, text) for text in rows.texts()])

    steering = steer(n, enumerated.model, Kind())
    for prompt, base, rewards in zip(
        enumerated.prompts, enumerated.base, enumerated.rewards, strict=True
    ):
        law = enumerated.law(prompt, steering)
        assert torch.allclose(law.exp(), best_of(base.log_law(), rewards, n).exp(), atol=1e-6)
        assert expected(law, rewards) > expected(base.log_law(), rewards) + 0.2
        kl = divergence(law, base.log_law())
        assert 0.05 < kl <= divergence_bound(n) == pytest.approx(math.log(n) - (n - 1) / n)
        wins = _wins(law, base.log_law(), rewards)
        assert 0.5 < wins <= n / (n + 1) + 1e-9


def _wins(law, base, rewards):
    """How often a draw of ``law`` has more reward than one of ``base``; a tie is half a win."""
    more = (rewards[:, None] > rewards[None, :]).double()
    more += 0.5 * (rewards[:, None] == rewards[None, :]).double()
    return float(law.exp() @ more @ base.exp())


def test_the_bound_is_reported_in_place_of_a_density(llama, make_jobs, make_reward):
    """A choice among candidates has no density; its KL is bounded by log n - (n-1)/n."""
    steering = steer(8, llama, make_reward())
    assert search_bound(steering.search, 40) == pytest.approx(math.log(8) - 7 / 8)
    with pytest.raises(NoDensity):
        logprobs(llama, make_jobs(), [[5]] * 6, steering)


def test_the_whole_curve_is_read_off_one_pool(llama, make_jobs, make_reward, answer):
    """The estimate at 1 is the pool's mean, at n its best, and it rises between them."""
    (d, *_) = answer(llama, make_jobs(), steer(8, llama, make_reward()))
    scores = [c.score for c in d.pool]
    means = expected_max(np.array(scores)).tolist()
    assert means[0] == pytest.approx(sum(scores) / 8)
    assert means[-1] == pytest.approx(max(scores))
    assert means == sorted(means)


def test_one_reading_of_the_prompt_serves_every_candidate(
    make_model, make_jobs, make_reward, answer
):
    """The policy reads a prompt once and n rows a step; the reward model reads each answer once."""
    model, judge, budget = make_model("llama", ends=False), make_reward(), 6
    jobs, ledger = make_jobs(budget=budget), Ledger()
    with model.metered(ledger), judge.metered(ledger):
        found = answer(model, jobs, steer(4, model, judge))
    prompts = [len(model.encode(j.chat)) for j in jobs]
    assert ledger.tokens["policy"] == sum(prompts) + 4 * (budget - 1) * len(jobs)
    assert [d.cost["policy"] for d in found] == [p + 4 * (budget - 1) for p in prompts]
    read = {(j.chat, c.text) for j, d in zip(jobs, found, strict=True) for c in d.pool}
    assert ledger.tokens["reward"] == sum(len(judge.encode(chat, text)) for chat, text in read)


def test_the_reward_model_reads_the_users_words_only(llama, make_jobs, make_reward, answer):
    """Under a prompt edit candidates are scored against what the user said."""
    judge, jobs = make_reward(), make_jobs()
    prompt = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    for job, d in zip(jobs, answer(llama, jobs, prompt + steer(3, llama, judge)), strict=True):
        bare = judge.score([job.chat] * 3, [c.text for c in d.pool])
        assert [c.score for c in d.pool] == pytest.approx(bare, abs=1e-5)


def test_no_candidate_is_refused():
    """There must be something to choose from."""
    with pytest.raises(PlumblineError, match=r"best_of_n\.n is 0; it must be 1 or more"):
        BestOfN(n=0)


def test_a_reward_that_is_nan_is_refused(llama, make_jobs, make_reward, answer):
    """A conversation the reward model cannot read stops the run with one clear line."""
    with pytest.raises(PlumblineError, match="gives NaN"):
        answer(llama, make_jobs(), steer(3, llama, make_reward(max_length=12)))


def test_no_candidate_goes_on_after_its_end(llama, make_jobs, make_reward, answer):
    """A candidate's tokens stop at its end token, and its reward is of the words before it."""
    judge, jobs = make_reward(), make_jobs(budget=12)
    soon = Steering(logits=(lambda z, s: z + 3 * (torch.arange(z.shape[-1]) == 2),))
    early = 0
    for job, d in zip(jobs, answer(llama, jobs, soon + steer(4, llama, judge)), strict=True):
        for candidate in d.pool:
            assert 2 not in candidate.tokens[:-1]
            assert len(candidate.tokens) == 12 or candidate.tokens[-1] == 2
            early += len(candidate.tokens) < 12
            assert candidate.text == llama.text(candidate.tokens).strip()
            whole = judge.score([job.chat], [candidate.text])
            assert candidate.score == pytest.approx(whole[0], abs=1e-5)
    assert early > 3


def test_a_greedy_protocol_still_draws_different_candidates(llama, make_jobs, make_reward, answer):
    """N greedy answers would be one answer: candidates are drawn at temperature 1."""
    judge = make_reward()
    cold = answer(llama, make_jobs(temperature=0), steer(5, llama, judge))
    assert all(len({c.tokens for c in d.pool}) > 1 for d in cold)
    assert tokens(cold) == tokens(answer(llama, make_jobs(), steer(5, llama, judge)))
