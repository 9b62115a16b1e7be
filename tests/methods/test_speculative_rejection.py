"""Properties of speculative rejection (arXiv 2410.20290): what stops, what is chosen, the cost."""

import itertools

import pytest
import torch

from harness.contracts.method import Fitted, Kit
from harness.engine.density import NoDensity, logprobs, search_bound
from harness.engine.sampling import Sampling
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from methods.best_of_n import BestOfN
from methods.speculative_rejection import SpeculativeRejection

MARKS = (3, 6, 9)


class Words:
    """A reward model that is any function of the words so far, and notes what it was asked."""

    def __init__(self, function):
        self.function = function
        self.seen = []

    def of_growing(self, model):
        """Score rows as they grow."""
        return self.of_rows

    def of_rows(self, rows):
        """Score rows whole."""
        self.seen.append(rows)
        values = [self.function(t) for t in rows.tokens()]
        return torch.tensor(values, dtype=torch.float64)


def mixed(tokens):
    """Give a number that says nothing early about what comes later."""
    return sum((i + 3) * t * 7919 % 101 for i, t in enumerate(tokens)) % 1013


def coarse(tokens):
    """Give one of three numbers, so that most candidates tie."""
    return sum(tokens) % 3


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def steer(method, model, judge):
    """Steer as a run does."""
    return method.steer(Kit(model, reward=judge), Fitted())


def pools(model, jobs, n, answer, judge=None):
    """Give best-of-n's candidates, which are the trajectories that may be rejected."""
    search = Search(n, (judge or Words(mixed)).of_rows)
    return [[c.tokens for c in d.pool] for d in answer(model, jobs, Steering(search=search))]


def by_hand(pool, function, marks, alpha, budget):
    """Speculative rejection written out on whole trajectories; gives (answer, alive per mark)."""
    alive, ended, counts = list(range(len(pool))), [], []
    for mark in marks:
        if mark >= budget:
            break
        ended += [i for i in alive if len(pool[i]) <= mark]
        alive = [i for i in alive if len(pool[i]) > mark]
        if not alive:
            break
        ranked = sorted([*ended, *alive], key=lambda i: (-function(pool[i][:mark]), i))
        kept = ranked[: round((1 - alpha) * len(ranked))] or ranked[:1]
        alive = [i for i in alive if i in kept]
        counts.append(len(alive))
    return pool[max([*ended, *alive], key=lambda i: (function(pool[i]), -i))], counts


@pytest.fixture
def brief(make_model):
    """Give a tiny model many of whose answers end early."""
    model = make_model("llama")
    model.ends = (*model.ends, *range(60, 110))
    return model


@pytest.mark.parametrize("function", [mixed, coarse])
@pytest.mark.parametrize("batch_rows", [64, 8])
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("n", [2, 5, 8])
def test_it_is_the_published_search(brief, n, alpha, batch_rows, function, make_jobs, answer):
    """On best-of-n's own trajectories it stops and chooses as the pseudo-code does."""
    jobs, method = make_jobs(budget=12), SpeculativeRejection(n, alpha, MARKS)
    found = answer(brief, jobs, steer(method, brief, Words(function)), batch_rows=batch_rows)
    drawn = pools(brief, jobs, n, answer)
    assert tokens(found) == [by_hand(pool, function, MARKS, alpha, 12)[0] for pool in drawn]
    assert len({len(trajectory) for pool in drawn for trajectory in pool}) > 3


def test_nothing_rejected_is_best_of_n(llama, make_jobs, make_reward, answer):
    """At alpha = 0 it is best-of-n, the same draws and the same choice."""
    judge, jobs = make_reward(), make_jobs()
    none = steer(SpeculativeRejection(6, 0.0, MARKS), llama, judge)
    assert tokens(answer(llama, jobs, none)) == tokens(
        answer(llama, jobs, BestOfN(6).steer(Kit(llama, reward=judge), Fitted()))
    )


def test_checkpoints_beyond_the_budget_are_best_of_n(llama, make_jobs, make_reward, answer):
    """A checkpoint that never comes rejects nothing."""
    judge, jobs = make_reward(), make_jobs(budget=8)
    late = steer(SpeculativeRejection(5, 0.5, (8, 40)), llama, judge)
    assert tokens(answer(llama, jobs, late)) == tokens(
        answer(llama, jobs, BestOfN(5).steer(Kit(llama, reward=judge), Fitted()))
    )


def test_survivors_are_a_share_of_what_was_there(make_model, make_jobs, answer):
    """After a checkpoint round((1 - alpha) count) candidates of every prompt go on."""
    model = make_model("llama", ends=False)
    for alpha, sizes in ((0.5, [8, 4, 2, 1]), (0.25, [8, 6, 4, 3]), (0.75, [8, 2, 1, 1])):
        judge = Words(mixed)
        answer(model, make_jobs(("hi",), budget=12), steer(
            SpeculativeRejection(8, alpha, MARKS), model, judge))  # fmt: skip
        assert [len(rows) for rows in judge.seen] == sizes
    expected = [round(0.5 * c) for c in (8, 4, 2)]
    assert by_hand([(1,) * 12] * 8, mixed, MARKS, 0.5, 12)[1] == expected


def test_a_reward_that_knows_the_end_early_chooses_as_best_of_n(llama, make_jobs, answer):
    """Where a partial score is the final one, nothing is lost by rejecting."""
    first = lambda ids: float(ids[0] * 7919 % 997) if ids else 0.0  # noqa: E731
    jobs = make_jobs()
    best = Steering(search=Search(6, Words(first).of_rows))
    early = steer(SpeculativeRejection(6, 0.5, (1, 4)), llama, Words(first))
    assert [first(t) for t in tokens(answer(llama, jobs, early))] == [
        first(t) for t in tokens(answer(llama, jobs, best))
    ]


def test_the_answer_is_one_of_the_candidates(llama, make_jobs, make_reward, answer):
    """What comes out is a trajectory that best-of-n draws too; one candidate is the plain one."""
    judge, jobs = make_reward(), make_jobs()
    found = answer(llama, jobs, steer(SpeculativeRejection(8, 0.5, MARKS), llama, judge))
    for d, pool in zip(found, pools(llama, jobs, 8, answer), strict=True):
        assert d.tokens in pool
    one = steer(SpeculativeRejection(n=1), llama, judge)
    assert tokens(answer(llama, jobs, one)) == tokens(answer(llama, jobs))


def test_an_early_end_is_still_the_answer_if_nothing_beats_it(brief, make_jobs, answer):
    """A finished candidate is kept for the choice even where its rank would have stopped it."""
    late = lambda ids: sum(ids) % 31 + 20.0 * (len(ids) in (4, 8))  # noqa: E731
    jobs = make_jobs(tuple(f"question {i}" for i in range(40)), budget=12)
    checked = 0
    found = answer(brief, jobs, steer(SpeculativeRejection(6, 0.5, (4, 8)), brief, Words(late)))
    for d, pool in zip(found, pools(brief, jobs, 6, answer), strict=True):
        best, _ = by_hand(pool, late, (4, 8), 0.5, 12)
        assert d.tokens == best
        checked += len(best) < 4 and sum(late(t[:4]) > late(best) for t in pool) >= 3
    assert checked


def test_the_tokens_drawn_are_the_share_of_the_rounds(make_model, make_jobs, make_reward, answer):
    """With R equal rounds and no early ends, sum (1 - alpha)^i / R of best-of-n's tokens."""
    model, judge, ledger, whole = make_model("llama", ends=False), make_reward(), Ledger(), Ledger()
    jobs, n, budget = make_jobs(budget=12), 8, 12
    prompts = sum(len(model.encode(j.chat)) for j in jobs)
    with model.metered(ledger), judge.metered(ledger):
        found = answer(model, jobs, steer(SpeculativeRejection(n, 0.5, MARKS), model, judge))
    with model.metered(whole), judge.metered(whole):
        answer(model, jobs, BestOfN(n).steer(Kit(model, reward=judge), Fitted()))
    # A token is read before the next is drawn: those of a checkpoint by its survivors only.
    rounds = len(jobs) * (8 * 2 + 4 * 3 + 2 * 3 + 1 * 3)
    assert ledger.tokens["policy"] == prompts + rounds
    assert sum(d.cost["policy"] for d in found) == prompts + rounds
    drawn = 8 * 3 + 4 * 3 + 2 * 3 + 1 * 3
    assert drawn / (n * budget) == pytest.approx(0.469, abs=5e-4)
    assert ledger.tokens["policy"] - prompts < 0.469 * (whole.tokens["policy"] - prompts)
    assert ledger.tokens["reward"] < 0.6 * whole.tokens["reward"]


def test_the_reward_model_reads_the_users_words_only(llama, make_jobs, make_reward, answer):
    """Under a prompt edit candidates are held against what the user said."""
    judge, jobs, asked = make_reward(), make_jobs(), []

    class Spy:
        def of_growing(self, model):
            score = judge.of_growing(model)

            def of_rows(rows):
                asked.extend(rows.asked())
                return score(rows)

            return of_rows

    prompt = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    answer(llama, jobs, prompt + steer(SpeculativeRejection(4, 0.5, MARKS), llama, Spy()))
    assert set(asked) == {job.chat for job in jobs}


def test_its_divergence_is_bounded_and_has_no_density(llama, make_jobs, make_reward):
    """One of n draws: KL <= log n; there is nothing to teacher-force."""
    steering = steer(SpeculativeRejection(8), llama, make_reward())
    assert search_bound(steering.search, 500) == pytest.approx(2.0794415)
    with pytest.raises(NoDensity):
        logprobs(llama, make_jobs(), [[5]] * 6, steering)


def test_it_raises_its_own_reward(llama, make_jobs, make_reward, answer):
    """Answers have more reward than the model's own, and no more than best-of-n's."""
    judge, jobs = make_reward(), make_jobs([f"question {i}" for i in range(24)], budget=12)

    def mean(steering):
        found = answer(llama, jobs, steering)
        return sum(judge.score([j.chat for j in jobs], [d.text for d in found])) / len(jobs)

    ours = mean(steer(SpeculativeRejection(8, 0.5, MARKS), llama, judge))
    best = mean(BestOfN(8).steer(Kit(llama, reward=judge), Fitted()))
    assert mean(Steering()) + 0.1 < ours <= best + 1e-6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 0}, "speculative_rejection.n is 0; it must be 1 or more"),
        ({"alpha": 1.0}, r"alpha is 1.0; it must lie in \[0, 1\)"),
        ({"alpha": -0.1}, r"alpha is -0.1"),
        ({"checkpoints": (32, 16)}, r"checkpoints is \(32, 16\); it must rise"),
        ({"checkpoints": (0, 16)}, r"checkpoints is \(0, 16\)"),
        ({"checkpoints": (16, 16)}, r"checkpoints is \(16, 16\)"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    """Candidates, share and checkpoints have bounds."""
    with pytest.raises(PlumblineError, match=message):
        SpeculativeRejection(**fields)


def test_defaults_come_from_the_command_line_too():
    """Checkpoints can be given as a list."""
    from harness.conduct.coerce import build

    built = build(SpeculativeRejection, "s", "here", {"checkpoints": "(16,32)", "alpha": "0.25"})
    assert built == SpeculativeRejection(alpha=0.25, checkpoints=(16, 32))
    assert list(itertools.pairwise(SpeculativeRejection().checkpoints))
    assert Sampling().max_new_tokens > SpeculativeRejection().checkpoints[0]


def test_a_reward_that_is_nan_is_refused(llama, make_jobs, make_reward, answer):
    """A conversation the reward model cannot read stops the run with one clear line."""
    with pytest.raises(PlumblineError, match=r"tiny reward reads 12 tokens, too few|gives NaN"):
        answer(llama, make_jobs(), steer(SpeculativeRejection(3, 0.5, MARKS), llama,
                                         make_reward(max_length=12)))  # fmt: skip
