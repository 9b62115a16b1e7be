"""Properties of RAD (arXiv 2310.09520): its loss, the clamp, truncation, what it reads."""

import pytest
import torch

from harness.chat import Chat
from harness.contracts.method import Fitted, Kit, Lab
from harness.engine.density import logprobs
from harness.engine.sampling import Sampling, draw, uniforms
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Preference, Prompt
from methods._second_network import SecondNetwork
from methods.rad import BETAS, PUBLISHED, Rad, cumulative_loss


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def pairs(count=24):
    """Make pairs in which the better answer always says the same word."""
    return [
        Preference(f"p{i}", Chat.of(f"question {i}"), "yes, of course", f"no {i}", cluster=str(i))
        for i in range(count)
    ]


def drawn_network(model, seed=0, size=0.5):
    """Give a reward model with a random head, so that rewards lie on both sides of the clamp."""
    network = SecondNetwork.of(Kit(model), "value")
    rng = torch.Generator().manual_seed(seed)
    network.base.copy_(size * torch.randn(network.base.shape, generator=rng))
    network.bias.fill_(0.5)
    return network


def by_hand(model, network, job, method, prompted=lambda chat: chat):
    """RAD written out: one prompt, no cache, every candidate read from its first token."""
    budget, drawn = job.sampling.max_new_tokens, []
    luck = uniforms((0, job.id, 0, 0), budget)
    with torch.no_grad():
        while len(drawn) < budget and not (drawn and drawn[-1] in model.ends):
            ids = torch.tensor([model.encode(prompted(job.chat)) + drawn])
            logits = model.net(ids).logits[0, -1].float()
            score = torch.full_like(logits, -torch.inf)
            for z in logits.topk(method.k).indices.tolist():
                r = float(network.values([job.chat], [[*drawn, z]])[-1])
                r = min(max(r, 0.0), 1.0)
                score[z] = logits[z] + method.beta * (1 - r if method.inverse else r)
            drawn.append(int(draw(score[None], torch.tensor([luck[len(drawn)]]))))
    return tuple(drawn)


@pytest.mark.parametrize("batch_rows", [64, 2])
@pytest.mark.parametrize("inverse", [False, True])
def test_it_is_the_published_rule(llama, inverse, batch_rows, make_jobs, answer):
    """Packed, cached, batched and under a prompt edit, it draws what whole readings draw."""
    network, method = drawn_network(llama), Rad(beta=6.0, k=5, inverse=inverse)
    jobs = make_jobs(budget=7)

    def kinder(chat):
        return chat.with_system("Be kind.")

    left = Steering(prompt=(lambda chats: [kinder(c) for c in chats],))
    steering = method.steer(Kit(llama), Fitted(network.tensors()))
    found = answer(llama, jobs, left + steering, batch_rows=batch_rows)
    assert tokens(found) == [by_hand(llama, network, job, method, kinder) for job in jobs]
    assert tokens(answer(llama, jobs, steering)) != tokens(
        answer(llama, make_jobs(budget=7, top_k=5))
    )


@pytest.mark.parametrize("k", [0, 5])
def test_no_strength_is_the_model_under_the_same_truncation(llama, k, make_jobs, answer):
    """At beta = 0 it is top-k sampling; at k = 0 nothing is truncated; nothing is learned."""
    method = Rad(beta=0.0, k=k)
    fitted = method.fit(Lab(llama))
    assert not fitted.tensors
    found = answer(llama, make_jobs(), method.steer(Kit(llama), fitted))
    assert tokens(found) == tokens(answer(llama, make_jobs(top_k=k)))


@pytest.mark.parametrize(("bias", "inverse"), [(7.0, False), (-7.0, False), (0.5, True)])
def test_rewards_are_clamped(llama, bias, inverse, make_jobs, answer):
    """Beyond [0, 1] all rewards are alike, and a constant reward is neutral."""
    network = SecondNetwork.of(Kit(llama), "value")
    if inverse:
        network.bias.fill_(bias)
    else:
        network = drawn_network(llama, size=0.01)
        network.bias.fill_(bias)
    steering = Rad(beta=40.0, k=5, inverse=inverse).steer(Kit(llama), Fitted(network.tensors()))
    found = tokens(answer(llama, make_jobs(), steering))
    assert found == tokens(answer(llama, make_jobs(top_k=5)))


def test_nothing_outside_the_candidates(llama, make_jobs):
    """The mass outside the top k is 0."""
    steering = Rad(beta=3.0, k=4).steer(Kit(llama), Fitted(drawn_network(llama).tensors()))
    jobs = make_jobs(("hi",))
    with torch.no_grad():
        top = llama.net(torch.tensor([llama.encode(jobs[0].chat)])).logits[0, -1].topk(4).indices
    everything = [[z] for z in range(llama.vocabulary)]
    found = logprobs(llama, jobs * llama.vocabulary, everything, steering)
    alive = {z for z, p in enumerate(found) if torch.isfinite(p).all()}
    assert alive == set(top.tolist())


def test_later_prefixes_count_more_and_weights_sum_to_one():
    """The weight of a prefix rises with its length: t / (n (n + 1) / 2)."""
    lengths, labels = torch.tensor([3, 2]), torch.tensor([1.0, 0.0])
    off = torch.ones(5)
    off[:3] = 0.0  # missed by 1 everywhere: each answer's weights add up
    assert float(cumulative_loss(off, lengths, labels)) == pytest.approx(1.0)
    missed = [
        float(cumulative_loss(torch.eye(3)[t], torch.tensor([3]), torch.zeros(1))) for t in range(3)
    ]
    assert missed == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_training_tells_the_preferred_answer(llama):
    """The loss falls and held-out pairs are told apart; the policy is left as it was."""
    before = {k: v.clone() for k, v in llama.net.state_dict().items()}
    method = Rad(learning_rate=3e-3, epochs=6, batch=4)
    fitted = method.fit(Lab(llama, pairs=pairs()))
    assert fitted.facts["last_loss"] < 0.5 * fitted.facts["first_loss"]
    assert fitted.facts["held_out_accuracy"] == 1.0
    assert (fitted.facts["pairs"], fitted.facts["steps"]) == (22, 36)
    assert fitted.facts["first_loss"] == pytest.approx(0.5, abs=0.1)  # r = 0 at the start
    assert all(torch.equal(v, before[k]) for k, v in llama.net.state_dict().items())
    again = method.fit(Lab(llama, pairs=pairs()))
    assert all(torch.equal(t, again.tensors[n]) for n, t in fitted.tensors.items())


def test_the_learning_rate_left_open_is_by_width(llama):
    """A network half as wide learns twice as fast; this one is 32 wide."""
    left_open = Rad(beta=1.0).fit(Lab(llama, pairs=pairs(12)))
    given = Rad(beta=1.0, learning_rate=0.064 / 32).fit(Lab(llama, pairs=pairs(12)))
    other = Rad(beta=1.0, learning_rate=1e-4).fit(Lab(llama, pairs=pairs(12)))
    assert all(torch.equal(t, given.tensors[n]) for n, t in left_open.tensors.items())
    assert not all(torch.equal(t, other.tensors[n]) for n, t in left_open.tensors.items())


def test_it_learns_from_the_users_words_only(llama):
    """A left neighbour's prompt edit changes nothing in what is learned."""
    left = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    bare = Rad().fit(Lab(llama, pairs=pairs()))
    stacked = Rad().fit(Lab(llama, pairs=pairs(), left=left))
    assert all(torch.equal(t, stacked.tensors[n]) for n, t in bare.tensors.items())


def test_strength_is_chosen_on_development_prompts(llama, make_judge):
    """The beta whose answers the granted reward likes best; as published where none is tried."""
    pick = Rad(k=5, dev=4)
    judge = make_judge(lambda chat, text: float(len(text) * 7919 % 101))
    brief = {"pairs": pairs(12), "sampling": Sampling(max_new_tokens=6)}
    lab = Lab(llama, dev=pairs(8), reward=judge, **brief)
    fitted = pick.fit(lab)
    nothing, *lines = fitted.facts["trials"]
    assert nothing["unsteered"]
    assert [line["beta"] for line in lines] == list(BETAS)
    best = max(lines, key=lambda line: line["reward"])["beta"]
    assert fitted.facts["beta"] == best
    assert best != PUBLISHED  # so that what is learned is what steers
    network = SecondNetwork.of(lab, "value", fitted.tensors)
    again = pick._by(lab, network, best)
    one, other = (
        lab.generate([Prompt("q", Chat.of("question 3"))], steering=s)
        for s in (pick.steer(lab, fitted), again)
    )
    assert tokens(one) == tokens(other)
    for grants in ({"dev": pairs(8)}, {"reward": judge}):
        assert pick.fit(Lab(llama, **brief, **grants)).facts["beta"] == PUBLISHED
    assert Rad(beta=3.0).fit(lab).facts["beta"] == 3.0


def test_each_candidate_is_read_once(make_model, make_jobs, answer):
    """A token drawn costs k tokens of the reward model, from one cache a row."""
    model, ledger = make_model("llama", ends=False), Ledger()
    jobs = make_jobs(budget=6)
    steering = Rad(beta=2.0, k=5).steer(Kit(model), Fitted(drawn_network(model).tensors()))
    with model.metered(ledger):
        answer(model, jobs, steering)
    prompts = sum(len(model.encode(j.chat)) for j in jobs)
    assert ledger.tokens["value"] == prompts + 5 * 6 * len(jobs)


@pytest.mark.parametrize(
    ("given", "message"),
    [(pairs(4), "rad needs 10 preference pairs"), ([], "there are 0 among 0")],
)
def test_too_few_pairs_are_refused(llama, given, message):
    """There must be pairs to learn from and to hold out."""
    with pytest.raises(PlumblineError, match=message):
        Rad().fit(Lab(llama, pairs=given))


def test_identical_sides_are_left_out_and_counted(llama):
    """A pair that says nothing is not learned from."""
    same = Preference("same", Chat.of("q"), "yes", "yes")
    fitted = Rad().fit(Lab(llama, pairs=[*pairs(12), same]))
    assert fitted.facts["left_out"] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beta": float("nan")}, "rad.beta is nan"),
        ({"k": -1}, "rad.k is -1; it must be 0 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    """Fields have bounds."""
    with pytest.raises(PlumblineError, match=message):
        Rad(**fields)


def test_more_candidates_than_tokens_are_refused(llama):
    """More than the vocabulary gives one clear line, before anything is trained."""
    with pytest.raises(PlumblineError, match="k is 4000, and the model's vocabulary has"):
        Rad(k=4000).fit(Lab(llama, pairs=pairs()))
