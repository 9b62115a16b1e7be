"""Properties of controlled decoding (arXiv 2310.17022), exact on the enumerable world."""

import itertools
import math

import pytest
import torch

from benchmarks.planted.tree import Tree, divergence, expected
from harness.contracts.method import Fitted, Kit
from harness.engine.decoding import Job
from harness.engine.density import search_bound
from harness.engine.sampling import Sampling, draw, uniforms
from harness.engine.steering import Search, Steering
from harness.engine.tilting import TokenRule, guided
from harness.errors import PlumblineError
from harness.ledger import Ledger
from methods._second_network import SecondNetwork
from methods._value_head import ValueHead
from methods.controlled_decoding import ControlledDecoding


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def head_of(model, seed=0, layers=2):
    """Draw a value network for a model's states."""
    width = model.net.config.hidden_size
    return ValueHead.drawn(width, width, layers, torch.Generator().manual_seed(seed)).scaled(4.0)


def network_of(model, shape, seed=0):
    """Draw a second network: the policy's body, and heads of some size."""
    network = SecondNetwork.of(Kit(model), shape)
    rng = torch.Generator().manual_seed(seed)
    for weight in (network.base, network.bias, network.rows):
        weight.copy_(torch.randn(weight.shape, generator=rng) / 3)
    for weight in network.body.parameters():  # no longer the policy's own
        weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=rng))
    return network


def fitted_of(method, model):
    """Give what a fit would have given, of random weights."""
    value = head_of(model) if method.form == "hidden" else network_of(model, method.form)
    return value, Fitted(value.tensors(), {"strength": method.strength or 0.0})


def kit_of(model, budget=12):
    """Give a kit whose answers have a budget."""
    return Kit(model, sampling=Sampling(max_new_tokens=budget))


def whole_value(value, model, chat, ids):
    """V of a text, read whole from its first token."""
    if isinstance(value, ValueHead):
        text = torch.tensor([[*model.encode(chat), *ids]])
        return float(value(model.net.base_model(input_ids=text).last_hidden_state[0, -1]))
    if not len(value.rows):
        text = torch.tensor([[*model.encode(chat), *ids]])
        state = value.body(input_ids=text).last_hidden_state[0, -1]
        return float(state @ value.base + value.bias)
    text = torch.tensor([[*model.encode(chat), *ids[:-1]]])
    state = value.body(input_ids=text).last_hidden_state[0, -1]
    return float(state @ (value.rows[ids[-1]] + value.base) + value.bias)


FORMS = ("hidden", "value", "vocabulary")


# ------------------------------------------------------------- token by token


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("strength", "k", "greedy"), [(2.0, 5, False), (1.0, 7, True)])
def test_token_by_token_it_is_the_loop_written_out(
    llama, form, strength, k, greedy, make_jobs, answer
):
    """Every form draws from p(z|s) exp(lambda V([s, z])), as if each text were read whole."""
    method = ControlledDecoding(form=form, strength=strength, k=k, greedy=greedy)
    jobs = make_jobs(budget=6)
    with torch.no_grad():
        value, fitted = fitted_of(method, llama)
        steering = method.steer(kit_of(llama), fitted)
        found = tokens(answer(llama, jobs, steering, batch_rows=4))
        for job, drawn in zip(jobs, found, strict=True):
            ids, luck = [], uniforms((0, job.id, 0, 0), 6)
            for t, token in enumerate(drawn):
                whole = torch.tensor([llama.encode(job.chat) + ids])
                log_p = llama.net(whole).logits[0, -1].log_softmax(-1)
                scores = torch.full_like(log_p, float("-inf"))
                for z in log_p.topk(k).indices.tolist():
                    v = whole_value(value, llama, job.chat, [*ids, z])
                    scores[z] = log_p[z] + strength * v
                best = int(scores.argmax())
                u = torch.tensor([luck[t]])
                assert token == (best if greedy else int(draw(scores[None], u)))
                ids.append(token)
    assert found != tokens(answer(llama, jobs))


@pytest.mark.parametrize("form", FORMS)
def test_on_the_enumerable_world_every_form_is_the_tilt(enumerated, form):
    """The law of every token is p exp(lambda V) / Z exactly, with the end token's V among them."""
    model = enumerated.model
    method = ControlledDecoding(form=form, strength=1.5, k=0)
    with torch.no_grad():
        value, fitted = fitted_of(method, model)
        for prompt, base in zip(enumerated.prompts, enumerated.base, strict=True):
            found = enumerated.tree(prompt, method.steer(kit_of(model, enumerated.budget), fitted))
            for depth, (law, p) in enumerate(zip(found.levels, base.levels, strict=True)):
                starts = itertools.product(range(base.branch), repeat=depth)
                for row, prefix in itertools.islice(enumerate(starts), 12):
                    v = torch.tensor(
                        [
                            whole_value(value, model, prompt.chat, [*prefix, z])
                            for z in range(base.branch + 1)
                        ]
                    )
                    tilt = (p[row] + 1.5 * v).softmax(-1)
                    assert torch.allclose(law[row].exp(), tilt, atol=1e-5)


def exact_bonus(tree, values):
    """Look V([s, z]) up in a table."""

    def bonus(step, candidates):
        depth = step.rows.drawn
        out = []
        for drawn, wanted in zip(step.rows.tokens(), candidates, strict=True):
            row = 0
            for token in drawn:
                row = row * tree.branch + min(token, tree.branch - 1)
            out.append(values[depth][row][wanted])
        return torch.stack(out)

    return bonus


@pytest.mark.parametrize("strength", [0.1, 1.0, 2.0])
def test_with_the_exact_value_the_loop_is_the_policy_of_the_paper(enumerated, strength):
    """The tilt by exp(lambda V*) in the loop is the tree's own; by the soft value, the optimum."""
    prompt, base, rewards = enumerated.prompts[0], enumerated.base[0], enumerated.rewards[0]
    for soft in (0.0, strength):
        values = base.next_values(rewards, soft)
        edit = guided(TokenRule(strength), exact_bonus(base, values))
        found = enumerated.tree(prompt, Steering(logits=(edit,)))
        exact = base.guided(values, strength)
        for ours, theirs in zip(found.levels, exact.levels, strict=True):
            assert torch.allclose(ours.exp(), theirs.exp(), atol=1e-5)
    tilt = (base.log_law() + strength * rewards).log_softmax(-1)
    assert torch.allclose(found.log_law().exp(), tilt.exp(), atol=1e-5)


def test_more_strength_buys_more_reward_for_more_divergence(enumerated):
    """Along lambda the exact reward and the exact KL of the policy both rise."""
    prompt, base, rewards = enumerated.prompts[0], enumerated.base[0], enumerated.rewards[0]
    seen = []
    for strength in (0.0, 0.5, 1.0, 2.0):
        edit = guided(TokenRule(strength), exact_bonus(base, base.next_values(rewards)))
        law = enumerated.tree(prompt, Steering(logits=(edit,))).log_law()
        seen.append((expected(law, rewards), divergence(law, base.log_law())))
    assert seen == sorted(seen)
    assert seen[0][1] == pytest.approx(0.0, abs=1e-6)
    assert seen[-1][0] > seen[0][0] + 0.3


@pytest.mark.parametrize("form", FORMS)
def test_no_strength_is_the_model_under_the_same_truncation(llama, form, make_jobs, answer):
    """At lambda 0 it is top-k sampling or greedy decoding, and needs no fit."""
    jobs = make_jobs()
    for k in (0, 6):
        method = ControlledDecoding(form=form, strength=0.0, k=k)
        steering = method.steer(kit_of(llama), Fitted())
        assert tokens(answer(llama, jobs, steering)) == tokens(answer(llama, make_jobs(top_k=k)))
    greedy = ControlledDecoding(form=form, strength=0.0, greedy=True)
    assert tokens(answer(llama, jobs, greedy.steer(kit_of(llama), Fitted()))) == tokens(
        answer(llama, make_jobs(temperature=0))
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_value_makes_strength_matter_to_nobody(llama, form, make_jobs, answer):
    """V that is the same for all candidates leaves top-k sampling, at any lambda."""
    method, jobs = ControlledDecoding(form=form, strength=9.0, k=6), make_jobs()
    value, _ = fitted_of(method, llama)
    heads = ("out", "base", "rows")
    flat = {n: t * 0 if n in heads else t for n, t in value.tensors().items()}
    steering = method.steer(kit_of(llama), Fitted(flat, {"strength": 9.0}))
    assert tokens(answer(llama, jobs, steering)) == tokens(answer(llama, make_jobs(top_k=6)))


def test_a_row_of_values_moved_by_a_constant_changes_nothing(llama, make_jobs, answer):
    """What the vocabulary head adds to every token alike cancels."""
    method, jobs = ControlledDecoding(form="vocabulary", strength=2.0, k=6), make_jobs()
    _, fitted = fitted_of(method, llama)
    moved = dict(fitted.tensors) | {"bias": fitted.tensors["bias"] + 5.0}
    one = answer(llama, jobs, method.steer(kit_of(llama), fitted))
    two = answer(llama, jobs, method.steer(kit_of(llama), Fitted(moved, fitted.facts)))
    assert tokens(one) == tokens(two)


@pytest.mark.parametrize(
    ("form", "policy", "value"),
    [("hidden", 5, 0), ("value", 1, 5), ("vocabulary", 1, 1)],
)
def test_it_costs_what_its_form_costs(make_model, form, policy, value, make_jobs, answer):
    """Per token: k policy tokens in one call (hidden), or one and k (value), or one and one."""
    model, budget = make_model("llama", ends=False), 7
    jobs = make_jobs(budget=budget)
    method = ControlledDecoding(form=form, strength=1.0, k=5)
    _, fitted = fitted_of(method, model)
    steering, ledger = method.steer(kit_of(model), fitted), Ledger()
    with model.metered(ledger):
        answer(model, jobs, steering)
    prompts = sum(len(model.encode(j.chat)) for j in jobs)
    own = budget if form == "hidden" else budget - 1  # the last token need not be read
    assert ledger.forwards["policy"] == 1 + own
    assert ledger.tokens["policy"] == prompts + policy * own * len(jobs)
    read = {"hidden": 0, "value": budget, "vocabulary": budget - 1}[form]
    assert ledger.tokens.get("value", 0) == (prompts + value * read * len(jobs) if read else 0)


@pytest.mark.parametrize("form", ["value", "vocabulary"])
def test_a_second_network_reads_the_users_words_only(llama, form, make_jobs, answer):
    """Under a prompt edit a network of its own reads what it read without one."""
    method, jobs = ControlledDecoding(form=form, strength=1.0, k=4), make_jobs(budget=2)
    value, _ = fitted_of(method, llama)
    read = []
    opened = value.opened
    value.opened = lambda chat: read.append(chat) or opened(chat)
    prompt = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    answer(llama, jobs, prompt + method._steering(kit_of(llama), value, 1.0))
    assert set(read) == {job.chat for job in jobs}


# ------------------------------------------------------------- block by block


@pytest.mark.parametrize("form", FORMS)
def test_block_by_block_it_is_the_loop_written_out(llama, form, make_jobs, answer):
    """K blocks from the kept prefix, each under its own luck; the one of largest V goes on."""
    width, block, budget = 3, 2, 7
    method = ControlledDecoding(form=form, rule="block", width=width, block=block)
    jobs = make_jobs(budget=budget)
    with torch.no_grad():
        value, fitted = fitted_of(method, llama)
        found = tokens(answer(llama, jobs, method.steer(kit_of(llama), fitted)))
        for job, drawn in zip(jobs, found, strict=True):
            prompt, kept = llama.encode(job.chat), []
            streams = [uniforms((0, job.id, 0, slot), budget) for slot in range(width)]
            for upto in range(block, budget + block, block):
                if kept and kept[-1] in llama.ends:
                    break
                ends = []
                for luck in streams:
                    ids = list(kept)
                    while len(ids) < min(upto, budget) and not (ids and ids[-1] in llama.ends):
                        logits = llama.net(torch.tensor([prompt + ids])).logits[:, -1]
                        ids.append(int(draw(logits, torch.tensor([luck[len(ids)]]))))
                    ends.append(ids)
                kept = max(ends, key=lambda ids: whole_value(value, llama, job.chat, ids))
            assert drawn == tuple(kept)


@pytest.mark.parametrize("form", FORMS)
def test_one_block_to_choose_from_is_plain_sampling(llama, form, make_jobs, answer):
    """K = 1 is the model, token for token, and needs no fit."""
    method = ControlledDecoding(form=form, rule="block", width=1, block=3)
    jobs = make_jobs()
    steering = method.steer(kit_of(llama), Fitted())
    assert tokens(answer(llama, jobs, steering)) == tokens(answer(llama, jobs))


def test_a_block_of_the_whole_budget_is_best_of_n(llama, make_jobs, make_reward, answer):
    """With M the budget and V = r at the end, it chooses as best-of-K does, from the same draws."""
    judge, jobs = make_reward(), make_jobs(budget=10)
    whole = Steering(search=Search(4, judge.of_rows))
    block = Steering(search=Search(4, judge.of_rows, blocks=10))
    assert tokens(answer(llama, jobs, block)) == tokens(answer(llama, jobs, whole))
    method = ControlledDecoding(rule="block", width=4, block=10)
    value, fitted = fitted_of(method, llama)
    best = answer(llama, jobs, Steering(search=Search(4, lambda r: value(r.hidden), reads=True)))
    assert tokens(answer(llama, jobs, method.steer(kit_of(llama, 10), fitted))) == tokens(best)


def test_blocks_stay_within_their_bound(llama):
    """KL(block || p) <= number of blocks times (log K - (K-1)/K)."""
    method = ControlledDecoding(rule="block", width=4, block=4)
    _, fitted = fitted_of(method, llama)
    search = method.steer(kit_of(llama), fitted).search
    assert search_bound(search, 12) == pytest.approx(3 * (math.log(4) - 3 / 4))


def test_choosing_blocks_by_the_exact_value_gains_within_the_bound(enumerated):
    """On the enumerable world best-of-K blocks of one token raise E[r]; KL stays in the bound."""
    from benchmarks.planted.candidates import best_of, divergence_bound

    base, rewards = enumerated.base[0], enumerated.rewards[0]
    levels = [
        torch.stack([best_of(p, v, 4) for p, v in zip(law, values, strict=True)])
        for law, values in zip(base.levels, base.next_values(rewards), strict=True)
    ]
    chosen = Tree(tuple(levels), base.branch).log_law()
    assert expected(chosen, rewards) > expected(base.log_law(), rewards) + 0.3
    assert divergence(chosen, base.log_law()) <= base.budget * divergence_bound(4)


# ------------------------------------------------------------------- learning


@pytest.mark.parametrize(
    "fields",
    [
        {"scorer": "fudge"},
        {"scorer": "q"},
        {"form": "value", "scorer": "fudge", "epochs": 4, "learning_rate": 2e-3},
        {"form": "vocabulary", "scorer": "q", "epochs": 5, "learning_rate": 2e-3},
    ],
    ids=["fudge", "q", "value-fudge", "vocabulary-q"],
)
def test_a_learnt_value_raises_the_truth(make_lab, exact_gain, fields):
    """Fitted on the compiled world, the exact expected kindness rises; reversed, it falls."""
    lab = make_lab()
    learning = {"samples": 12, "epochs": 12, "batch": 16} | fields
    method = ControlledDecoding(strength=2.0, k=0, **learning)
    fitted = method.fit(lab)
    assert exact_gain(method.steer(lab, fitted)) > 0.3
    backwards = Fitted(fitted.tensors, dict(fitted.facts) | {"strength": -2.0})
    assert exact_gain(method.steer(lab, backwards)) < -0.2
    assert fitted.facts["r_squared"]["1"] > 0.5


def test_strength_is_chosen_on_development_prompts(make_lab):
    """The trials are recorded, doing nothing first, and the best of them is used."""
    method = ControlledDecoding(k=0, samples=6, epochs=4, dev=8)
    fitted = method.fit(make_lab())
    tried = fitted.facts["trials"]
    assert [t.get("strength") for t in tried] == [None, 0.5, 1.0, 2.0, 4.0]
    best = max(tried[1:], key=lambda t: t["reward"])
    assert fitted.facts["strength"] == best["strength"]


def test_a_given_strength_is_used_as_it_is(make_lab):
    """Nothing is tried where the strength is given, or where blocks have none."""
    for method in (
        ControlledDecoding(k=0, strength=1.25, samples=2, epochs=1),
        ControlledDecoding(rule="block", samples=2, epochs=1, block=2),
    ):
        fitted = method.fit(make_lab(dev=()))
        assert "trials" not in fitted.facts
        assert fitted.facts["strength"] == (method.strength or 0.0)


def test_a_fit_says_what_it_learnt_from(make_lab, make_pairs):
    """Answers, rewards' scale, losses and held-out R^2 are facts; one prompt in ten is held."""
    lab = make_lab(pairs=make_pairs()[:20])
    facts = ControlledDecoding(k=0, strength=1.0, samples=3, epochs=2).fit(lab).facts
    assert facts["answers"] + facts["empty_answers"] == 18 * 3
    assert len(facts["loss"]) == 2
    assert facts["loss"][1] < facts["loss"][0]
    assert set(facts["r_squared"]) == {"0", "0.25", "0.5", "0.75", "1"}
    assert facts["reward_std"] > 0


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": -1}, "controlled_decoding.k is -1; it must be 0 or more"),
        ({"width": 0}, "controlled_decoding.width is 0; it must be 1 or more"),
        ({"block": 0}, "controlled_decoding.block is 0; it must be 1 or more"),
        ({"epochs": 0}, "controlled_decoding.epochs is 0"),
        ({"learning_rate": 0.0}, "controlled_decoding.learning_rate is 0.0"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    """Every size has its least value."""
    with pytest.raises(PlumblineError, match=message):
        ControlledDecoding(**fields)


def test_more_candidates_than_tokens_are_refused(llama):
    """More than the vocabulary gives one clear line, before anything is learnt."""
    method = ControlledDecoding(k=4000, strength=1.0)
    with pytest.raises(PlumblineError, match="k is 4000, and the model's vocabulary has"):
        method.steer(kit_of(llama), fitted_of(method, llama)[1])


def test_a_block_longer_than_the_budget_is_refused(llama, make_lab):
    """A block that is never full is refused, in a fit and in a run; one of the budget is not."""
    method = ControlledDecoding(rule="block", block=13)
    with pytest.raises(PlumblineError, match="block is 13 tokens and an answer's budget 12"):
        method.steer(kit_of(llama, 12), fitted_of(method, llama)[1])
    with pytest.raises(PlumblineError, match="block is 13 tokens"):
        method.fit(make_lab())
    assert method.steer(kit_of(llama, 13), fitted_of(method, llama)[1]).search.blocks == 13


def test_too_few_prompts_are_refused(make_lab, make_pairs):
    """Fewer than ten different prompts cannot be trained on and judged."""
    with pytest.raises(PlumblineError, match="needs 10 training prompts or more; there are 4"):
        ControlledDecoding(k=0, strength=1.0).fit(make_lab(pairs=make_pairs()[:4]))


def test_rewards_without_a_difference_are_refused(make_lab, make_judge):
    """There is nothing to learn from a reward that never differs."""
    with pytest.raises(PlumblineError, match="all alike"):
        ControlledDecoding(k=0, strength=1.0).fit(
            make_lab(reward=make_judge(lambda chat, text: 1.0))
        )


def test_a_reward_that_is_nan_is_refused(make_lab, make_judge):
    """NaN is named with the reward model and the prompt."""
    bad = make_judge(lambda chat, text: math.nan)
    with pytest.raises(PlumblineError, match="reward model judge gives nan for"):
        ControlledDecoding(k=0, strength=1.0).fit(make_lab(reward=bad))


def test_jobs_of_a_turn_are_values_too(llama, make_jobs, answer):
    """A later turn is guided like the first: nothing depends on the turn but the luck."""
    method = ControlledDecoding(strength=1.0, k=5)
    _, fitted = fitted_of(method, llama)
    steering = method.steer(kit_of(llama), fitted)
    one = answer(llama, make_jobs(("hello",), temperature=0), steering)
    two = answer(llama, make_jobs(("hello",), temperature=0, turn=1), steering)
    assert tokens(one) == tokens(two)
    assert isinstance(make_jobs()[0], Job)
