"""Properties of GenARM (arXiv 2410.08193): its loss, its law, what it reads, what it costs."""

import math
from dataclasses import replace

import pytest
import torch

from harness.chat import Chat
from harness.contracts.method import Fitted, Kit, Lab
from harness.engine.density import logprobs
from harness.engine.sampling import draw, uniforms
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Preference
from methods._adapters import adapters_of, beside
from methods._arm import Recipe, fresh, loss_of, reward
from methods._preference_rows import Row, rows_of
from methods.genarm import GenArm

RECIPE = Recipe(0.05, 5e-4, 4, 8, 1, 8, 4, 0)


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def pairs(count=16):
    """Make pairs in which the better answer always says the same word."""
    return [
        Preference(f"p{i}", Chat.of(f"question {i}"), "yes, of course", f"no {i}", cluster=str(i))
        for i in range(count)
    ]


def trained(model, **fields):
    """Fit on the pairs, fast."""
    method = GenArm(**{"learning_rate": 2e-2, "batch": 4, "epochs": 3, **fields})
    return method, method.fit(Lab(model, pairs=pairs()))


def whole(model, method, fitted, chat, drawn):
    """Give log pi_r of the next token by one pass over the whole text."""
    adapters = adapters_of(fitted.tensors, method.lora / method.rank, model.device)
    with torch.no_grad(), beside(model.net, adapters):
        logits = model.net(torch.tensor([model.encode(chat) + drawn])).logits[0, -1]
    return logits.float().log_softmax(-1)


def by_hand(model, method, fitted, job, prompted=lambda chat: chat):
    """GenARM as its decoder is published: a weighted mean at temperature 1 / (1 + alpha)."""
    budget, drawn = job.sampling.max_new_tokens, []
    luck, a = uniforms((0, job.id, 0, 0), budget), method.alpha
    while len(drawn) < budget and not (drawn and drawn[-1] in model.ends):
        with torch.no_grad():
            ids = torch.tensor([model.encode(prompted(job.chat)) + drawn])
            base = model.net(ids).logits[0, -1].float().log_softmax(-1)
        mean = (base + a * whole(model, method, fitted, job.chat, drawn)) / (1 + a)
        drawn.append(int(draw((mean * (1 + a))[None], torch.tensor([luck[len(drawn)]]))))
    return tuple(drawn)


@pytest.mark.parametrize("batch_rows", [64, 2])
def test_it_is_the_published_sum(llama, batch_rows, make_jobs, answer):
    """Cached, batched and under a prompt edit, it draws what whole readings draw."""
    method, fitted = trained(llama, alpha=0.7)
    jobs = make_jobs(budget=6)

    def kinder(chat):
        return chat.with_system("Be kind.")

    left = Steering(prompt=(lambda chats: [kinder(c) for c in chats],))
    steering = method.steer(Kit(llama), fitted)
    found = answer(llama, jobs, left + steering, batch_rows=batch_rows)
    assert tokens(found) == [by_hand(llama, method, fitted, job, kinder) for job in jobs]
    assert tokens(answer(llama, jobs, steering)) != tokens(answer(llama, jobs))


def test_no_strength_is_the_model_and_learns_nothing(llama):
    """At alpha = 0 there is nothing to fit and nothing to touch."""
    method = GenArm(alpha=0.0)
    fitted = method.fit(Lab(llama))
    assert not fitted.tensors
    assert not method.steer(Kit(llama), fitted).touches


def test_an_untrained_reward_is_the_model_at_half_the_temperature(llama, make_jobs, answer):
    """With pi_r = p and alpha = 1 the law is p squared."""
    method = GenArm()
    steering = method.steer(Kit(llama), Fitted(fresh(llama.net, RECIPE)))
    assert tokens(answer(llama, make_jobs(), steering)) == tokens(
        answer(llama, make_jobs(temperature=0.5))
    )


def test_strengths_of_several_add_up(llama, make_jobs, answer):
    """Two of them in a stack are one of their summed strength."""
    _, fitted = trained(llama)

    def steer(alpha):
        return GenArm(alpha=alpha).steer(Kit(llama), fitted)

    jobs = make_jobs()
    two = answer(llama, jobs, steer(0.25) + steer(0.5))
    assert tokens(two) == tokens(answer(llama, jobs, steer(0.75)))


def test_a_rewards_tokens_sum_to_it(llama, make_jobs, answer):
    """The reward of an answer is the sum of its tokens' log-probabilities, prompt left out."""
    jobs = make_jobs(budget=6)
    drawn = [list(t) for t in tokens(answer(llama, jobs))]
    with torch.no_grad():
        found = reward(llama.net, [llama.encode(j.chat) for j in jobs], drawn)
    expected = [float(p.sum()) for p in logprobs(llama, jobs, drawn)]
    assert found.tolist() == pytest.approx(expected, abs=1e-3)


def test_the_loss_has_no_reference(llama):
    """At the start it is -log s(beta (log p(y+) - log p(y-))), which is not log 2."""
    rows, _ = rows_of(Lab(llama), pairs(6))
    with torch.no_grad():
        good, bad = (
            reward(llama.net, [r.prompt for r in rows], [getattr(r, side) for r in rows])
            for side in ("chosen", "rejected")
        )
        expected = -torch.nn.functional.logsigmoid(0.05 * (good - bad)).mean()
        assert float(loss_of(llama.net, rows, 0.05)) == pytest.approx(float(expected))
        swapped = [Row(r.prompt, r.rejected, r.chosen) for r in rows]
        margin = 0.05 * (good - bad).mean()
        moved = float(loss_of(llama.net, swapped, 0.05) - expected)
    assert moved == pytest.approx(float(margin), abs=1e-4)
    assert abs(float(expected) - math.log(2)) > 0.05
    _, fitted = trained(llama)
    first = fitted.facts["first_loss"]
    assert abs(first - math.log(2)) > 0.05


def test_training_prefers_what_is_preferred(llama):
    """The loss falls, and pi_r gives the better answers more than the model does."""
    method, fitted = trained(llama)
    assert fitted.facts["last_loss"] < 0.7 * fitted.facts["first_loss"]
    assert (fitted.facts["pairs"], fitted.facts["steps"]) == (16, 12)
    rows, _ = rows_of(Lab(llama), pairs(24)[16:])
    adapters = adapters_of(fitted.tensors, method.lora / method.rank, llama.device)
    with torch.no_grad():
        before = float(loss_of(llama.net, rows, 1.0))
        with beside(llama.net, adapters):
            after = float(loss_of(llama.net, rows, 1.0))
    assert after < before


def test_the_learning_rate_left_open_is_by_width(llama):
    """The published 5e-4 of a model 4096 wide is 0.064 for this one, which is 32 wide."""
    fitted = GenArm(batch=8).fit(Lab(llama, pairs=pairs(8)))
    assert fitted.facts["learning_rate"] == pytest.approx(0.064)
    assert trained(llama, epochs=1)[1].facts["learning_rate"] == 2e-2


def test_a_fit_says_how_well_it_tells_unseen_pairs(llama):
    """Development pairs that were not learnt from are told before and after; no gain is a doubt."""
    method = GenArm(learning_rate=2e-2, batch=4, epochs=3)
    swapped = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in pairs(40)]
    good = method.fit(Lab(llama, pairs=pairs(), dev=pairs(24)))
    assert (good.facts["dev_pairs"], good.facts["told"]) == (8, 1.0)
    rows, _ = rows_of(Lab(llama), pairs(24)[16:])
    with torch.no_grad():
        sums = [
            reward(llama.net, [r.prompt for r in rows], [getattr(r, side) for r in rows])
            for side in ("chosen", "rejected")
        ]
    assert good.facts["told_by_the_policy"] == float((sums[0] > sums[1]).double().mean())
    bad = method.fit(Lab(llama, pairs=pairs(), dev=swapped[16:24]))
    assert bad.facts["told"] == 0.0
    assert "no better than the model itself" in bad.facts["warnings"][0]
    assert "told" not in method.fit(Lab(llama, pairs=pairs())).facts


def test_pieces_of_a_step_make_no_difference(llama):
    """Pushing a step's pairs together or one by one gives the same adapters."""
    _, one = trained(llama, together=1, epochs=1)
    _, all_ = trained(llama, together=4, epochs=1)
    for name, tensor in one.tensors.items():
        assert torch.allclose(tensor, all_.tensors[name], atol=2e-3), name


def _hooks(net):
    """Count them: the library may have left some of its own on a network shared by tests."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def test_the_policy_is_left_as_it_was(llama, make_jobs, answer):
    """Neither training nor decoding leaves a hook, a gradient or another weight behind."""
    before = {k: v.clone() for k, v in llama.net.state_dict().items()}
    hooks = _hooks(llama.net)
    method, fitted = trained(llama)
    answer(llama, make_jobs(budget=4), method.steer(Kit(llama), fitted))
    assert all(torch.equal(v, before[k]) for k, v in llama.net.state_dict().items())
    assert all(p.grad is None for p in llama.net.parameters())
    assert _hooks(llama.net) == hooks


def test_it_learns_from_the_users_words_only(llama):
    """A left neighbour's prompt edit changes nothing in what is learned."""
    left = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    method = GenArm(batch=8)
    bare = method.fit(Lab(llama, pairs=pairs()))
    stacked = method.fit(Lab(llama, pairs=pairs(), left=left))
    assert bare.facts == stacked.facts
    assert all(torch.equal(t, stacked.tensors[n]) for n, t in bare.tensors.items())


def test_a_token_costs_one_token_of_each(make_model, make_jobs, answer):
    """The reward of every next token comes from one reading."""
    model, ledger = make_model("llama", ends=False), Ledger()
    jobs = make_jobs(budget=6)
    steering = GenArm().steer(Kit(model), Fitted(fresh(model.net, RECIPE)))
    with model.metered(ledger):
        answer(model, jobs, steering)
    assert ledger.tokens["arm"] == ledger.tokens["policy"]


def test_pairs_that_say_nothing_are_refused(llama):
    """Identical sides leave nothing to learn from, and are counted."""
    same = [Preference("a", Chat.of("q"), "yes", "yes")]
    with pytest.raises(PlumblineError, match="no preference pair is left"):
        GenArm().fit(Lab(llama, pairs=same))
    fitted = GenArm(batch=8).fit(Lab(llama, pairs=[*pairs(8), *same]))
    assert fitted.facts["left_out"]["equal answers"] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": float("inf")}, "genarm.alpha is inf"),
        ({"beta": 0.0}, "genarm.beta is 0.0; it must be above 0"),
        ({"batch": 0}, "genarm.batch is 0; it must be 1 or more"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    """Fields have bounds."""
    with pytest.raises(PlumblineError, match=message):
        GenArm(**fields)
