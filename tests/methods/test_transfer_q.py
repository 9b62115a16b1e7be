"""Properties of Transfer Q* (arXiv 2405.20495): rollouts, their rewards, what both cost."""

import itertools
from dataclasses import replace

import pytest
import torch

from harness.contracts.method import Fitted, Kit
from harness.engine.density import logprobs, sequence_kl
from harness.engine.model import Model
from harness.engine.prefixes import OtherTokens, SameTokens, Whole
from harness.engine.sampling import Sampling
from harness.engine.steering import HiddenEdit, Site, Steering, at_last
from harness.errors import PlumblineError
from harness.ledger import Ledger
from methods.reward_guided import RewardGuided
from methods.transfer_q import TransferQ

BUDGET = 7
WAYS = {
    "direct": TransferQ(w=3.0, k=4, tokens=3, rule="greedy"),
    "sampled": TransferQ(w=2.0, k=4, tokens=2, tau=0.7),
    "beyond the budget": TransferQ(w=3.0, k=3, tokens=40, rule="greedy"),
    "by the policy": TransferQ(w=3.0, k=4, tokens=3, rollout="policy", rule="greedy"),
    "indirect": TransferQ(w=2.0, k=4, tokens=3, form="indirect", rule="greedy"),
}


@pytest.fixture(scope="module")
def other(make_network, make_model):
    """Give the function that makes another model of the policy's tokenizer."""

    def make(seed=1, ends=()):
        tiny = make_model("llama")
        net = make_network("llama", tiny.vocabulary, seed)
        made = Model(net, tiny.tokenizer, tiny.template, name="other", role="aligned")
        made.ends = (*made.ends, *ends)
        return made

    return make


@pytest.fixture
def brief(make_model):
    """Give a tiny model many of whose answers end early."""
    model = make_model("llama")
    model.ends = (*model.ends, *range(60, 90))
    return model


@pytest.fixture
def make_kit(brief, other, make_reward):
    """Give the function that grants a run its models."""

    def make(judge=None, budget=BUDGET, model=brief):
        how = Sampling(max_new_tokens=budget)
        return Kit(model, reward=judge or make_reward(), models={"aligned": other()}, sampling=how)

    return make


def steer(method, kit):
    """Steer as a run does."""
    return method.steer(kit, Fitted())


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


class Slow:
    """The method written out: every text is read whole and anew, one prompt at a time."""

    def __init__(self, method, kit, job):
        self.how, self.kit, self.job = method, kit, job
        self.rho = kit.model if method.rollout == "policy" else kit.models[method.rollout]
        self.drawn_by_rho = 0

    def law(self, model, said):
        """Give a model's next-token log-probabilities after an answer's tokens."""
        with torch.no_grad():
            ids = torch.tensor([model.encode(self.job.chat) + said])
            return model.net(ids).logits[0, -1].log_softmax(-1)

    def rolled(self, said):
        """Continue greedily until the answer is over, or long enough."""
        for _ in range(self.how.tokens):
            if said[-1] in self.kit.model.ends or len(said) == self.job.sampling.max_new_tokens:
                break
            said = [*said, int(self.law(self.rho, said).argmax())]
        return said

    def reward(self, said):
        """Score an answer as a whole one."""
        words = [t for t in said if t not in self.kit.model.ends]
        judge, chat = self.kit.reward, self.job.chat
        if not isinstance(judge.of_candidates(self.kit.model), SameTokens):
            return judge.score([chat], [self.kit.model.text(said).strip()])[0]
        reader = judge.of_candidates(self.kit.model)
        ids = [*reader.reader.opened(chat), *words, *reader.suffix]
        with torch.no_grad():
            return float(judge.net(torch.tensor([ids])).logits[0, 0])

    def likelier(self, said, whole):
        """Give log rho - log p of what was continued."""
        total = 0.0
        for t in range(len(said), len(whole)):
            mine, theirs = (self.law(m, whole[:t])[whole[t]] for m in (self.rho, self.kit.model))
            total += float(mine - theirs)
        return total

    def scores(self, said):
        """Give the candidates and their scores."""
        top = self.law(self.kit.model, said).topk(self.how.k)
        whole = [self.rolled([*said, z]) for z in top.indices.tolist()]
        q = torch.tensor([self.reward(w) for w in whole], dtype=torch.float64)
        if self.how.form == "indirect":
            implied = [self.how.beta * self.likelier(said, w) for w in whole]
            u = (self.how.correction * (q - torch.tensor(implied))).exp()
            q = u / u.mean() * q
        return top.indices, (top.values + self.how.w * q) / self.how.tau

    def answer(self):
        """Give the greedy answer."""
        said = []
        while len(said) < self.job.sampling.max_new_tokens:
            found, score = self.scores(said)
            said.append(int(found[score.argmax()]))
            if said[-1] in self.kit.model.ends:
                break
        return tuple(said)


@pytest.mark.parametrize("batch_rows", [64, 2])
@pytest.mark.parametrize("way", [w for w in WAYS if w != "sampled"])
def test_it_is_the_published_rule(way, batch_rows, make_kit, make_jobs, answer):
    """Packed rollouts on shared caches answer as a slow loop does that reads everything anew."""
    kit, jobs = make_kit(), make_jobs(budget=BUDGET)
    found = answer(kit.model, jobs, steer(WAYS[way], kit), batch_rows=batch_rows)
    assert tokens(found) == [Slow(WAYS[way], kit, job).answer() for job in jobs]
    assert len({len(t) for t in tokens(found)}) > 1


def test_a_sampled_token_has_the_law_of_the_scores(make_kit, make_jobs, answer):
    """The probability of every drawn token is softmax(score / tau) over the candidates."""
    kit, jobs, how = make_kit(), make_jobs(budget=5), WAYS["sampled"]
    kit = Kit(kit.model, reward=kit.reward, models=kit.models, sampling=jobs[0].sampling)
    drawn = tokens(answer(kit.model, jobs, steer(how, kit)))
    forced = logprobs(kit.model, jobs, drawn, steer(how, kit))
    for job, said, found in zip(jobs, drawn, forced, strict=True):
        slow = Slow(how, kit, job)
        for t, token in enumerate(said):
            candidates, score = slow.scores(list(said[:t]))
            (at,) = (candidates == token).nonzero().flatten().tolist()
            assert float(found[t]) == pytest.approx(float(score.log_softmax(-1)[at]), abs=2e-4)


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_without_rollouts_it_is_args(kind, make_kit, make_jobs, make_reward, answer):
    """tokens=0 asks the reward model about the unfinished text, as reward_guided does."""
    kit, jobs = make_kit(make_reward(kind=kind)), make_jobs(budget=BUDGET)
    args = RewardGuided(w=2.0, k=4).steer(kit, Fitted())
    found = tokens(answer(kit.model, jobs, steer(TransferQ(w=2.0, k=4, tokens=0), kit)))
    assert found == tokens(answer(kit.model, jobs, args))
    assert found != tokens(answer(kit.model, jobs, steer(WAYS["sampled"], kit)))


def test_where_both_rewards_are_one_the_forms_are_one(make_kit, make_jobs, answer):
    """A correction of 0, or a baseline with the same reward for all, leaves u = 1."""
    kit, jobs = make_kit(), make_jobs(budget=BUDGET)
    direct, indirect = (
        tokens(answer(kit.model, jobs, steer(how, kit)))
        for how in (
            TransferQ(k=4, tokens=3),
            TransferQ(k=4, tokens=3, form="indirect", correction=0.0),
        )
    )
    assert direct == indirect


def test_a_weight_of_zero_is_the_model(make_kit, make_jobs, answer):
    """At w = 0 over the whole vocabulary answers are unsteered, and no other model is read."""
    kit, jobs, ledger = make_kit(), make_jobs(budget=BUDGET), Ledger()
    with kit.models["aligned"].metered(ledger), kit.reward.metered(ledger):
        found = tokens(answer(kit.model, jobs, steer(TransferQ(w=0.0, k=0), kit)))
    assert found == tokens(answer(kit.model, jobs))
    assert not ledger.tokens
    greedy = steer(TransferQ(w=0.0, rule="greedy"), kit)
    cold = make_jobs(budget=BUDGET, temperature=0.0)
    assert tokens(answer(kit.model, jobs, greedy)) == tokens(answer(kit.model, cold))


@pytest.mark.parametrize("make", ["other tokens", "whole"])
def test_other_readings_are_the_same_rule(make, make_kit, make_jobs, make_reward, answer):
    """A reward model with a tokenizer of its own, or one scored whole, reads rollouts too."""
    if make == "other tokens":
        judge = make_reward(kind="pieces")
        kind = OtherTokens
    else:
        judge, kind = make_reward("mistral-window"), Whole
    kit, jobs = make_kit(judge), make_jobs(budget=5)
    assert isinstance(judge.of_candidates(kit.model), kind)
    how = TransferQ(w=3.0, k=3, tokens=2, rule="greedy")
    kit = make_kit(judge, 5)
    found = tokens(answer(kit.model, jobs, steer(how, kit)))
    assert found == [Slow(how, kit, job).answer() for job in jobs]


def test_its_cost_is_k_rollouts_a_token(make_model, make_kit, make_jobs, answer):
    """A token kept costs k l tokens of rho, k (l + 1) of the reward model and its closing words."""
    model, k, n, budget = make_model("llama", ends=False), 3, 2, 5
    kit, ledger = make_kit(budget=budget, model=model), Ledger()
    jobs = make_jobs(("hi",), budget=budget)
    rho, judge = kit.models["aligned"], kit.reward
    with model.metered(ledger), rho.metered(ledger), judge.metered(ledger):
        answer(model, jobs, steer(TransferQ(k=k, tokens=n), kit))
    prompt, reader = len(model.encode(jobs[0].chat)), judge.of_candidates(model)
    rollouts = [min(n, budget - t - 1) for t in range(budget)]
    assert ledger.tokens["policy"] == prompt + budget - 1
    assert ledger.tokens["reward"] == len(reader.reader.opened(jobs[0].chat)) + sum(
        k * (1 + each + len(reader.suffix)) for each in rollouts
    )
    # The last place has no rollout: its candidates are not read, and what was drawn never is.
    assert ledger.tokens["aligned"] == prompt + sum(k * each for each in rollouts)


def test_an_end_is_the_end_of_a_rollout(make_kit, make_jobs, answer):
    """A rollout stops with the token that ends an answer, and at the budget."""
    kit, jobs, seen = make_kit(), make_jobs(budget=BUDGET), []

    class Spy:
        def of_candidates(self, model):
            return lambda step, said: seen.append((step.index, said)) or said[..., 0].double()

    kit = Kit(kit.model, reward=Spy(), models=kit.models, sampling=kit.sampling)
    answer(kit.model, jobs, steer(TransferQ(w=1e-6, k=6, tokens=3), kit))
    ends, short = set(kit.model.ends), 0
    for index, said in seen:
        assert said.shape[2] <= 1 + min(3, BUDGET - index - 1)
        for branch in said.flatten(0, 1).tolist():
            words = [t for t in branch if t >= 0]
            assert branch == [*words, *[-1] * (len(branch) - len(words))]
            assert not ends & set(words[:-1])
            short += len(words) < len(branch)
    assert short


def test_a_stop_string_is_the_end_of_a_rollout(make_kit, make_model, make_jobs, answer):
    """A rollout stops with the token that completes a string at which answers end."""
    model, seen = make_model("llama"), []
    model.template = replace(model.template, stop=("e", "a", "o", "t"))
    kit = make_kit(model=model)

    class Spy:
        def of_candidates(self, model):
            return lambda step, said: seen.append(said) or said[..., 0].double()

    spied = Kit(model, reward=Spy(), models=kit.models, sampling=kit.sampling)
    answer(model, make_jobs(budget=BUDGET), steer(TransferQ(w=1e-6, k=0, tokens=4), spied))
    short = 0
    for branch in torch.cat([said.flatten(0, 1) for said in seen if said.shape[2] == 5]).tolist():
        words = [t for t in branch if t >= 0]
        assert not set("eaot") & set(model.tokenizer.decode(words[:-1]))
        short += 1 < len(words) < len(branch)
    assert short


def test_the_models_beside_read_the_users_words_and_no_edit(make_kit, make_jobs, answer):
    """Under edits of prompt and states Q is what it is without them; only p is edited."""
    kit, jobs, seen = make_kit(), make_jobs(("hi", "a"), budget=1), {}

    class Spy:
        def __init__(self, name):
            self.name = name

        def of_candidates(self, model):
            read = kit.reward.of_candidates(model)

            def score(step, said):
                seen[self.name] = (said, read(step, said))
                return seen[self.name][1]

            return score

    push = HiddenEdit(Site.layer(1), at_last(lambda h, step: h + 3.0))
    edits = Steering(hidden=(push,), prompt=(lambda cs: [c.with_system("Be kind.") for c in cs],))
    for name, left in (("bare", Steering()), ("edited", edits)):
        budgeted = Kit(kit.model, reward=Spy(name), models=kit.models, sampling=kit.sampling)
        how = TransferQ(k=0, tokens=3, rollout="policy")
        answer(kit.model, jobs, left + steer(how, budgeted))
    bare, edited = (dict(branches(*seen[name])) for name in ("bare", "edited"))
    assert bare.keys() == edited.keys()
    for branch, reward in bare.items():
        assert reward == pytest.approx(edited[branch], abs=1e-4)


def branches(said, rewards):
    """Give ((row, the tokens of a branch), its reward)."""
    for row, several in enumerate(said.tolist()):
        for i, branch in enumerate(several):
            yield (row, *branch), float(rewards[row, i])


@pytest.mark.parametrize("tokens_ahead", [0, 1, 5])
def test_on_the_enumerable_world_the_law_is_the_tilt(
    tokens_ahead, enumerated, kindness, make_judge, planted
):
    """Every token's law is p(z|s) exp(w r([s, z, y'])) with y' the policy's own greedy path."""

    class Judge(make_judge):
        max_length = 1 << 30

        def of_candidates(self, model):
            return Whole(self)

    model = enumerated.model
    kit = Kit(model, reward=Judge(kindness), sampling=Sampling(max_new_tokens=enumerated.budget))
    how = TransferQ(w=0.8, k=0, tokens=tokens_ahead, rollout="policy")
    end = set(model.ends)
    for prompt, base in zip(enumerated.prompts, enumerated.base, strict=True):
        found = enumerated.tree(prompt, steer(how, kit))

        def greedy(prefix, base=base):
            """Follow the tree's likeliest branch."""
            for _ in range(tokens_ahead):
                if prefix[-1] in end or len(prefix) == enumerated.budget:
                    break
                row = 0
                for token in prefix:
                    row = row * base.branch + token
                prefix = [*prefix, int(base.levels[len(prefix)][row].argmax())]
            return prefix

        for depth, (law, p) in enumerate(zip(found.levels, base.levels, strict=True)):
            for row, prefix in enumerate(itertools.product(range(base.branch), repeat=depth)):
                rewards = torch.tensor(
                    [
                        kindness(prompt.chat, model.text(greedy([*prefix, z])).strip())
                        for z in range(base.branch + 1)
                    ]
                )
                expected = (p[row] + how.w * rewards).log_softmax(-1)
                assert torch.allclose(law[row].exp(), expected.exp(), atol=1e-5)


def test_its_kl_can_be_measured(make_kit, make_jobs, answer):
    """Teacher forcing rolls out as decoding did: the KL is finite, and above zero."""
    kit, jobs = make_kit(budget=4), make_jobs(("hi", "The sun is", "a"), budget=4)
    steering = steer(TransferQ(w=2.0, k=20, tokens=2), kit)
    drawn = tokens(answer(kit.model, jobs, steering))
    found = sequence_kl(kit.model, jobs, drawn, steering)
    alone = sequence_kl(kit.model, jobs, drawn, steering, batch_rows=1)
    assert found == pytest.approx(alone, abs=1e-3)
    assert all(0.01 < kl < 100 for kl in found)


def test_it_improves_on_the_path_it_looks_along(make_kit, make_jobs, answer):
    """Looking to the end along the policy's own greedy path, no answer has less reward than it."""
    kit, jobs = make_kit(), make_jobs([f"question {i}" for i in range(12)], budget=BUDGET)
    how = TransferQ(w=1e6, k=6, tokens=BUDGET, rollout="policy", rule="greedy")
    cold = make_jobs([f"question {i}" for i in range(12)], budget=BUDGET, temperature=0.0)
    paths, found = (
        tokens(answer(kit.model, some, steering))
        for some, steering in ((cold, Steering()), (jobs, steer(how, kit)))
    )
    gains = []
    for job, path, said in zip(jobs, paths, found, strict=True):
        slow = Slow(how, kit, job)
        gains.append(slow.reward(list(said)) - slow.reward(list(path)))
    assert min(gains) > -1e-4
    assert sum(gains) / len(gains) > 0.3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": -1}, "transfer_q.k is -1; it must be 0 or more"),
        ({"tokens": -1}, "transfer_q.tokens is -1"),
        ({"w": float("nan")}, "transfer_q.w is nan; it must be a finite number"),
        ({"tau": 0.0}, "transfer_q.tau is 0.0"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    """Weights, candidates and lengths have bounds."""
    with pytest.raises(PlumblineError, match=message):
        TransferQ(**fields)


def test_models_that_do_not_fit_are_refused(brief, make_model, make_reward, make_kit):
    """A missing role, another vocabulary and too many candidates give one clear line each."""
    kit = Kit(brief, reward=make_reward())
    with pytest.raises(PlumblineError, match=r"names no model 'aligned'; add a section"):
        steer(TransferQ(), kit)
    kit = Kit(brief, reward=make_reward(), models={"aligned": make_model("llama", kind="pieces")})
    with pytest.raises(PlumblineError, match="different vocabularies"):
        steer(TransferQ(), kit)
    with pytest.raises(PlumblineError, match=r"k is 4000, and the model's vocabulary has"):
        steer(TransferQ(k=4000), make_kit())


def test_a_prompt_that_leaves_no_room_is_refused(make_kit, make_jobs, answer):
    """A conversation longer than rho reads stops the run with one clear line."""
    kit, jobs = make_kit(), make_jobs(("tell me " * 8,))
    kit.models["aligned"].context = 30
    with pytest.raises(PlumblineError, match="other reads 30 tokens, too few"):
        answer(kit.model, jobs, steer(TransferQ(), kit))
