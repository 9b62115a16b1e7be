"""Properties of CARDS (arXiv 2406.16306): where segments end, which are kept, what they cost."""

import itertools
import math

import pytest
import torch

from harness.conduct import plugins
from harness.contracts.method import Fitted, Kit, Lab
from harness.engine.density import NoDensity, logprobs, search_bound
from harness.engine.sampling import Sampling, uniforms
from harness.engine.steering import HiddenEdit, Search, Site, Steering, at_last
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Prompt
from methods.cards import Cards, entropy

BUDGET = 14
RAW = {"scale": "raw", "threshold": 4.5, "shortest": 2, "longest": 5}


class Words:
    """A reward model that is any function of the tokens so far, and notes what it was asked."""

    name = "words"

    def __init__(self, function):
        self.function = function
        self.seen = []

    def of_rows(self, rows):
        """Score rows as they are."""
        self.seen += [tuple(t) for t in rows.tokens()]
        return torch.tensor([self.function(t) for t in rows.tokens()], dtype=torch.float64)

    def score(self, chats, texts):
        """Score what was said before a word was drawn."""
        return [self.function(()) for _ in texts]


def mixed(tokens):
    """Give a number in [-1, 1) that says nothing early about what comes later."""
    return sum((i + 3) * t * 7919 % 101 for i, t in enumerate(tokens)) % 97 / 48.5 - 1


def steer(method, model, judge, budget=BUDGET):
    """Steer as a run does."""
    kit = Kit(model, reward=judge, sampling=Sampling(max_new_tokens=budget))
    return method.steer(kit, Fitted())


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


class Slow:
    """The search written out for one prompt: every text is read anew for every token."""

    def __init__(self, model, job, how, function, seed=0):
        self.model, self.how, self.function = model, how, function
        self.key = (seed, job.id, job.turn)
        self.prompt = model.encode(job.chat)
        self.budget = job.sampling.max_new_tokens
        self.proposals, self.drawn, self.redrawn = [], 0, 0

    def law(self, said):
        """Give the next token's log-probabilities."""
        with torch.no_grad():
            logits = self.model.net(torch.tensor([self.prompt + said])).logits[0, -1]
        return logits.double().log_softmax(-1)

    def luck(self, number, at, *stream):
        """Give the uniform of a proposal at a place."""
        return uniforms((*self.key, number, *stream), self.budget + 1)[at]

    def over(self, said):
        """Say whether the answer has ended."""
        return bool(said) and (said[-1] in self.model.ends or len(said) == self.budget)

    def segment(self, start, number):
        """Draw one proposal."""
        said = list(start)
        self.drawn -= len(start)
        while True:
            p = self.law(said).exp()
            target = self.luck(number, len(said)) * p.cumsum(0)[-1]
            said.append(int((p.cumsum(0) <= target).sum()))
            n, h = len(said) - len(start), float(torch.special.entr(self.law(said).exp()).sum())
            surely = n >= self.how.shortest and (h >= self.how.threshold or n >= self.how.longest)
            if self.over(said) or surely:
                self.drawn += len(said)
                return said

    def accepts(self, said, number):
        """Hold a proposal against the rising bar."""
        how, r = self.how, self.function(said)
        start = (1 - how.alpha) * self.function(()) + how.alpha * how.target
        tau = min(start + len(said) * (how.target - start) / self.budget, how.target)
        if not how.beta:
            return r >= tau
        return self.luck(number, len(said), "cards") < min(1.0, math.exp((r - tau) / how.beta))

    def answer(self):
        """Give the answer's tokens."""
        said, number = [], 0
        while not self.over(said):
            tried = []
            for i in range(number, number + self.how.proposals):
                tried.append((self.segment(said, i), i))
                self.proposals.append(tuple(tried[-1][0]))
                if self.accepts(*tried[-1]):
                    said, number = tried[-1]
                    break
            else:
                best = max(tried, key=lambda t: self.function(t[0]))
                self.redrawn += len(best[0]) - len(said) if best is not tried[-1] else 0
                number = number + self.how.proposals if best is not tried[-1] else best[1]
                said = best[0]
        return tuple(said)


@pytest.fixture
def brief(make_model):
    """Give a tiny model many of whose answers end early."""
    model = make_model("llama")
    model.ends = (*model.ends, *range(60, 80))
    return model


WAYS = {
    "by chance": Cards(target=0.4, beta=0.5, **RAW),
    "hard": Cards(target=0.2, beta=0.0, **RAW),
    "few tries": Cards(target=0.9, beta=0.1, proposals=3, **RAW),
    "never good enough": Cards(target=9.0, beta=0.1, alpha=1.0, proposals=4, **RAW),
}


@pytest.mark.parametrize("batch_rows", [64, 2])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_published_search(brief, way, batch_rows, make_jobs, answer):
    """Rows that reject on their own in one batch answer as a slow loop without a cache does."""
    jobs, judge, how = make_jobs(budget=BUDGET), Words(mixed), WAYS[way]
    found = answer(brief, jobs, steer(how, brief, judge), batch_rows=batch_rows)
    slow = [Slow(brief, job, how, mixed) for job in jobs]
    assert tokens(found) == [one.answer() for one in slow]
    # Every proposal is scored once, and nothing else is.
    assert sorted(judge.seen) == sorted(p for one in slow for p in one.proposals)
    assert len(judge.seen) > 3 * len(jobs)
    assert any(one.redrawn for one in slow) == (way in ("few tries", "never good enough"))
    assert len({len(t) for t in tokens(found)}) > 1


def test_its_cost_is_what_it_draws(brief, make_jobs, answer):
    """A token is read once each time it is drawn, a proposal drawn again included."""
    jobs, how, ledger = make_jobs(budget=BUDGET), WAYS["few tries"], Ledger()
    with brief.metered(ledger):
        found = answer(brief, jobs, steer(how, brief, Words(mixed)))
    slow = [Slow(brief, job, how, mixed) for job in jobs]
    for one in slow:
        one.answer()
    expected = [len(one.prompt) + one.drawn + one.redrawn for one in slow]
    assert [d.cost["policy"] for d in found] == expected
    assert ledger.tokens["policy"] == sum(expected)


def test_a_bar_below_everything_is_plain_sampling(brief, make_jobs, answer):
    """Where every first proposal is accepted, the answers are the model's own, token for token."""
    jobs = make_jobs(budget=BUDGET)
    low = steer(Cards(target=-1e9, alpha=1.0, beta=0.5, **RAW), brief, Words(mixed))
    assert tokens(answer(brief, jobs, low)) == tokens(answer(brief, jobs))
    assert not steer(Cards(proposals=1), brief, Words(mixed)).touches


def test_without_a_threshold_segments_are_as_long_as_they_may_be(make_model, make_jobs, answer):
    """At an infinite threshold every segment has ``longest`` tokens, the last what is left."""
    model, judge = make_model("llama", ends=False), Words(lambda tokens: float(len(tokens)))
    how = Cards(target=0.0, scale="raw", threshold=math.inf, longest=5)
    answer(model, make_jobs(("hi",), budget=12), steer(how, model, judge, 12))
    assert [len(t) for t in judge.seen] == [5, 10, 12]


def test_a_segment_has_so_many_proposals_at_most(make_model, make_jobs, answer):
    """A bar nothing reaches costs ``proposals`` a segment, and keeps the best of them."""
    model, judge = make_model("llama", ends=False), Words(mixed)
    how = Cards(
        target=50.0, alpha=1.0, beta=0.0, proposals=7, scale="raw", threshold=math.inf, longest=6
    )
    (found,) = answer(model, make_jobs(("hi",), budget=12), steer(how, model, judge, 12))
    first, second = judge.seen[:7], judge.seen[7:]
    assert len(second) == 7
    assert found.tokens[:6] == max(first, key=mixed)
    assert found.tokens == max(second, key=mixed)
    assert len({*first}) == 7


def test_no_luck_is_used_twice(make_model, make_jobs, answer):
    """No two proposals draw from the same uniforms, whatever has been rejected before."""
    model, used = make_model("llama", ends=False), []
    how, job = Cards(target=0.9, beta=0.1, proposals=3, **RAW), make_jobs(("hi",), budget=BUDGET)[0]
    slow = Slow(model, job, how, mixed)
    draw = slow.luck
    slow.luck = lambda number, at, *stream: (
        used.append((number, at, *stream)) or draw(number, at, *stream)
    )
    slow.answer()
    assert len(slow.proposals) > 6
    assert len(set(used)) == len(used)


def test_the_bar_rises_from_the_prompt_to_the_target():
    """Tau goes straight from (1 - alpha) r(x) + alpha r* to r*, and never beyond."""

    class At:
        ids = torch.zeros(3, 8)

        def lengths(self):
            return [0, 4, 8]

    bare = torch.tensor([-2.0, -2.0, -2.0], dtype=torch.float64)
    assert Cards(target=2.0, alpha=0.25).bar(bare, At()).tolist() == [-1.0, 0.5, 2.0]
    high = torch.tensor([6.0, 6.0, 6.0], dtype=torch.float64)
    assert Cards(target=2.0).bar(high, At()).tolist() == [2.0, 2.0, 2.0]


def test_entropy_is_in_nats():
    """A uniform law of n tokens has log n, a certain one 0."""
    log_p = torch.tensor([[0.0] * 4, [0.0, *[-math.inf] * 3]]).log_softmax(-1)
    assert entropy(log_p).tolist() == pytest.approx([math.log(4), 0.0])


def test_rewards_are_measured_on_the_models_own_answers(llama, make_jobs, make_reward, answer):
    """scale=own is scale=raw with target and beta in the reward model's own numbers."""
    judge, prompts = make_reward(), [Prompt(f"p{i}", j.chat) for i, j in enumerate(make_jobs())]

    class Pair:
        def __init__(self, chat):
            self.prompt = chat

    how = Sampling(max_new_tokens=10)
    lab = Lab(llama, reward=judge, sampling=how, pairs=[Pair(p.chat) for p in prompts])
    own = Cards(target=0.5, beta=0.25, threshold=4.0)
    fitted = own.fit(lab)
    mean, std = (fitted.facts[f"reward_{k}"] for k in ("mean", "std"))
    assert fitted.facts["answers"] == len(prompts)
    raw = Cards(target=mean + 0.5 * std, beta=0.25 * std, threshold=4.0, scale="raw")
    jobs, kit = make_jobs(), Kit(llama, reward=judge, sampling=how)
    found = tokens(answer(llama, jobs, own.steer(kit, fitted)))
    assert found == tokens(answer(llama, jobs, raw.steer(kit, Fitted())))
    assert found != tokens(answer(llama, jobs))
    assert not raw.fits()
    assert not raw.fit(lab).facts


def test_it_raises_its_own_reward(llama, make_jobs, make_reward, answer):
    """Answers have more reward than the model's own."""
    judge, jobs = make_reward(), make_jobs([f"question {i}" for i in range(24)], budget=12)

    def mean(steering):
        found = answer(llama, jobs, steering)
        return sum(judge.score([j.chat for j in jobs], [d.text for d in found])) / len(jobs)

    how = Cards(target=1.0, beta=0.1, threshold=4.0, scale="raw")
    assert mean(steer(how, llama, judge, 12)) > mean(Steering()) + 0.2


def test_the_reward_model_reads_the_users_words_only(llama, make_jobs, answer):
    """Under a prompt edit segments are held against what the user said."""
    jobs, asked = make_jobs(budget=6), []

    class Spy(Words):
        def of_rows(self, rows):
            asked.extend(rows.asked())
            return super().of_rows(rows)

        def score(self, chats, texts):
            asked.extend(chats)
            return super().score(chats, texts)

    prompt = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    answer(llama, jobs, prompt + steer(WAYS["hard"], llama, Spy(mixed)))
    assert set(asked) == {job.chat for job in jobs}


def test_it_goes_with_edits_of_hidden_states(brief, make_jobs, answer):
    """A row's states are edited at its own positions, whatever rows of other ages do beside it."""
    places = []

    def push(hidden, step):
        places.append(step.positions.flatten().tolist())
        return hidden + 0.3 * step.positions[..., None].to(hidden).cos()

    edit = Steering(hidden=(HiddenEdit(Site.layer(1), at_last(push)),))
    steering, jobs = edit + steer(WAYS["hard"], brief, Words(mixed)), make_jobs(budget=BUDGET)
    together = tokens(answer(brief, jobs, steering))
    assert together == tokens(answer(brief, jobs, steering, batch_rows=1))
    assert together != tokens(answer(brief, jobs, steer(WAYS["hard"], brief, Words(mixed))))
    assert any(later[0] < now[0] for now, later in itertools.pairwise(places))


def test_an_edit_of_the_logits_is_refused(llama):
    """What follows rows of one age cannot stand beside a search whose rows differ in age."""
    edit = Steering(logits=(lambda logits, step: logits,))
    with pytest.raises(PlumblineError, match="an edit of the logits follows rows of one age"):
        edit + steer(WAYS["hard"], llama, Words(mixed))


def test_a_network_that_forgets_is_refused(make_model, make_jobs, answer):
    """A window of attention counts columns, which a rejected segment would shift."""
    model = make_model("mistral-window")
    with pytest.raises(PlumblineError, match="every layer attends to all earlier tokens"):
        answer(model, make_jobs(), steer(WAYS["hard"], model, Words(mixed)))


def test_under_a_greedy_protocol_it_draws(brief, make_jobs, answer):
    """Proposals are drawn at temperature 1 where the protocol is greedy: else all were alike."""
    cold, warm = make_jobs(temperature=0.0, budget=BUDGET), make_jobs(budget=BUDGET)
    steering = steer(WAYS["by chance"], brief, Words(mixed))
    assert tokens(answer(brief, cold, steering)) == tokens(answer(brief, warm, steering))


def test_it_has_no_density(llama, make_jobs):
    """There is nothing to teacher-force, and no bound on its divergence is claimed."""
    steering = steer(WAYS["hard"], llama, Words(mixed))
    assert search_bound(steering.search, 20) is None
    with pytest.raises(NoDensity):
        logprobs(llama, make_jobs(), [[5]] * 6, steering)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"proposals": 0}, "cards.proposals is 0; it must be 1 or more"),
        ({"beta": -0.1}, "cards.beta is -0.1"),
        ({"target": math.inf}, "cards.target is inf; it must be a finite number"),
        ({"shortest": 0}, "cards.shortest is 0"),
        ({"shortest": 8, "longest": 4}, "cards.longest is 4; it must be 8 or more"),
        ({"prompts": 1}, "cards.prompts is 1; it must be 2 or more"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    """Bars, lengths and proposals have bounds."""
    with pytest.raises(PlumblineError, match=message):
        Cards(**fields)


def test_a_search_by_segments_is_alone():
    """Segments are one candidate's, without blocks."""
    segments = steer(Cards(**RAW), None, Words(mixed)).search.segments
    with pytest.raises(PlumblineError, match="has width 1, no blocks"):
        Search(2, Words(mixed).of_rows, reads=True, segments=segments)


def test_it_is_found_by_its_name():
    """The folder of faithfulness cards beside the methods hides no method."""
    assert plugins.method_class("cards")[1] is Cards
