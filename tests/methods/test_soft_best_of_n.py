"""Properties of soft best-of-N (arXiv 2505.03156): its law, its limits, its bound."""

import math

import pytest
import torch

from benchmarks.planted.candidates import soft_best_of
from benchmarks.planted.tree import divergence
from harness.contracts.method import Fitted, Kit
from harness.engine.decoding import Job, decode
from harness.engine.density import search_bound
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from methods.best_of_n import BestOfN
from methods.soft_best_of_n import SoftBestOfN


class Kind:
    """A reward model that is a function of an answer."""

    def __init__(self, function):
        self.function = function

    def of_rows(self, rows):
        """Score rows."""
        return torch.tensor([float(self.function(t)) for t in rows.texts()], dtype=torch.float64)


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def steer(method, model, judge):
    """Steer as a run does."""
    return method.steer(Kit(model, reward=judge), Fitted())


def test_no_temperature_is_best_of_n(llama, make_jobs, make_reward, answer):
    """At tau = 0, and as it goes there, the best candidate is taken."""
    judge, jobs = make_reward(), make_jobs()
    best = tokens(answer(llama, jobs, steer(BestOfN(6), llama, judge)))
    for tau in (0.0, 1e-9):
        assert tokens(answer(llama, jobs, steer(SoftBestOfN(6, tau), llama, judge))) == best


def test_one_candidate_is_plain_sampling(llama, make_jobs, make_reward, answer):
    """At n = 1 it is the model, token for token."""
    steering = steer(SoftBestOfN(1), llama, make_reward())
    assert tokens(answer(llama, make_jobs(), steering)) == tokens(answer(llama, make_jobs()))


def test_the_candidates_are_those_of_best_of_n(llama, make_jobs, make_reward, answer):
    """Only the choice differs: the pool and its scores are best-of-n's."""
    judge, jobs = make_reward(), make_jobs()
    soft = answer(llama, jobs, steer(SoftBestOfN(5), llama, judge))
    hard = answer(llama, jobs, steer(BestOfN(5), llama, judge))
    assert [d.pool for d in soft] == [d.pool for d in hard]
    assert all(d.tokens in [c.tokens for c in d.pool] for d in soft)


def test_an_offset_of_the_reward_changes_nothing(llama, make_jobs, answer):
    """A reward plus a constant is the same reward; a multiple of it is another temperature."""
    jobs = make_jobs([f"question {i}" for i in range(12)])
    one, moved, doubled = (
        tokens(answer(llama, jobs, steer(SoftBestOfN(5, tau), llama, Kind(function))))
        for tau, function in (
            (0.7, len),
            (0.7, lambda text: len(text) - 40),
            (1.4, lambda text: 2 * len(text)),
        )
    )
    assert one == moved == doubled


@pytest.mark.parametrize(("n", "tau"), [(2, 1.0), (4, 0.5), (4, 1e6)])
def test_its_law_is_the_closed_form(enumerated, kindness, n, tau):
    """Many draws on the enumerable world fall as the exact law says; its KL keeps to log n."""
    model, prompt = enumerated.model, enumerated.prompts[0]
    steering = steer(SoftBestOfN(n, tau), model, Kind(lambda text: kindness(None, text)))
    base = enumerated.base[0].log_law()
    law = soft_best_of(base, enumerated.rewards[0], n, tau)
    if tau > 1e3:
        assert torch.allclose(law.exp(), base.exp(), atol=1e-4)  # no reward counts any more
    count = 4000
    how = Sampling(max_new_tokens=enumerated.budget)
    jobs = [Job(f"{prompt.id}#{i}", prompt.chat, how) for i in range(count)]
    number = {a: i for i, a in enumerate(enumerated.answers)}
    seen = torch.zeros(len(number), dtype=torch.float64)
    for batch in decode(model, jobs, steering, batch_rows=4096):
        for d in batch:
            seen[number[d.tokens]] += 1
    p = law.exp()
    common = p > 5 / count
    z = (seen - count * p)[common] / (count * p * (1 - p))[common].sqrt()
    chi_squared, cells = float((z**2).sum()), int(common.sum())
    assert abs(chi_squared - cells) < 5 * math.sqrt(2 * cells)
    assert divergence(law, base) <= math.log(n)


def test_its_bound_is_log_n(llama, make_reward):
    """It returns one of n independent draws by a rule of its own."""
    steering = steer(SoftBestOfN(8), llama, make_reward())
    assert search_bound(steering.search, 40) == pytest.approx(math.log(8))


def test_the_reward_model_reads_the_users_words_only(llama, make_jobs, make_reward, answer):
    """Under a prompt edit candidates are scored against what the user said."""
    judge, jobs = make_reward(), make_jobs()
    prompt = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    found = answer(llama, jobs, prompt + steer(SoftBestOfN(3), llama, judge))
    for job, d in zip(jobs, found, strict=True):
        bare = judge.score([job.chat] * 3, [c.text for c in d.pool])
        assert [c.score for c in d.pool] == pytest.approx(bare, abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"), [({"n": 0}, "n is 0; it must be 1"), ({"tau": -1.0}, "tau is -1.0")]
)
def test_values_out_of_range_are_refused(fields, message):
    """Candidates and temperature have bounds."""
    with pytest.raises(PlumblineError, match=message):
        SoftBestOfN(**fields)
