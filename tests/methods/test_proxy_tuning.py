"""Properties of proxy-tuning (arXiv 2401.08565) and contrastive decoding (arXiv 2210.15097)."""

import pytest
import torch

from harness.contracts.method import Fitted, Kit
from harness.engine.density import logprobs, sequence_kl
from harness.engine.model import Model
from harness.engine.sampling import draw, uniforms
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from methods.proxy_tuning import ProxyTuning


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


@pytest.fixture
def other(llama, make_network):
    """Give the function that makes another network with the policy's tokenizer."""

    def make(seed, role="aligned", template=None):
        net = make_network("llama", len(llama.tokenizer), seed)
        return Model(net, llama.tokenizer, template or llama.template, name=role, role=role)

    return make


@pytest.fixture
def kit(llama, other):
    """Give a kit with an expert and an anti-expert beside the policy."""
    return Kit(llama, models={"aligned": other(1), "small": other(2, "small")})


def steer(kit, **fields):
    """Steer as a run does."""
    return ProxyTuning(**fields).steer(kit, Fitted())


def by_hand(kit, job, method, prompted=lambda chat: chat):
    """Proxy-tuning written out on raw logits: one prompt, no cache, every text read whole."""
    budget, drawn = job.sampling.max_new_tokens, []
    luck = uniforms((0, job.id, 0, 0), budget)

    def last(model, chat):
        return model.net(torch.tensor([model.encode(chat) + drawn])).logits[0, -1].float()

    with torch.no_grad():
        while len(drawn) < budget and not (drawn and drawn[-1] in kit.model.ends):
            base = last(kit.model, prompted(job.chat))
            score = base.clone()
            if method.expert:
                score += method.alpha * last(kit.models[method.expert], job.chat)
            if method.anti:
                anti = kit.model if method.anti == "policy" else kit.models[method.anti]
                score -= method.alpha * last(anti, job.chat)
            if method.plausible:
                p = base.softmax(-1)
                score[p < method.plausible * p.max()] = -torch.inf
            drawn.append(int(draw(score[None], torch.tensor([luck[len(drawn)]]))))
    return tuple(drawn)


WAYS = {
    "proxy": ProxyTuning(alpha=0.7, anti="small"),
    "itself": ProxyTuning(alpha=1.5),
    "contrastive": ProxyTuning(alpha=1.0, expert="", anti="small", plausible=0.1),
}


@pytest.mark.parametrize("batch_rows", [64, 2])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_published_sum(kit, way, batch_rows, make_jobs, answer):
    """Cached and batched, it draws what the sum of raw logits without caches draws."""
    jobs = make_jobs(budget=8)
    found = answer(kit.model, jobs, WAYS[way].steer(kit, Fitted()), batch_rows=batch_rows)
    assert tokens(found) == [by_hand(kit, job, WAYS[way]) for job in jobs]
    assert tokens(found) != tokens(answer(kit.model, jobs))


def test_the_other_models_read_the_users_words_in_their_own_template(
    llama, other, make_jobs, answer
):
    """Right of a prompt edit only the policy reads the edit; a chat expert sees its own format."""
    from harness.engine.model import pick_template

    expert = other(1, template=pick_template("vicuna", llama.tokenizer, "expert"))
    kit = Kit(llama, models={"aligned": expert, "small": other(2, "small")})
    expert.context = 400
    jobs = make_jobs(budget=5)

    def kinder(chat):
        return chat.with_system("Be kind.")

    prompt = Steering(prompt=(lambda chats: [kinder(c) for c in chats],))
    found = answer(llama, jobs, prompt + WAYS["proxy"].steer(kit, Fitted()))
    assert tokens(found) == [by_hand(kit, job, WAYS["proxy"], kinder) for job in jobs]


def test_no_strength_is_the_model(kit, make_jobs, answer):
    """At alpha = 0 it is the policy, token for token, and costs nothing."""
    assert not steer(kit, alpha=0.0).touches


def test_an_expert_that_is_its_anti_expert_changes_nothing(kit, make_jobs, answer):
    """Tuning that changed nothing changes nothing, at any strength."""
    jobs = make_jobs()
    same = steer(kit, alpha=3.0, expert="small", anti="small")
    assert tokens(answer(kit.model, jobs, same)) == tokens(answer(kit.model, jobs))


def test_taking_off_the_policy_itself_gives_the_expert(kit, make_jobs, answer):
    """With anti = policy and alpha = 1 the sum is the expert."""
    jobs = make_jobs()
    found = answer(kit.model, jobs, steer(kit))
    assert tokens(found) == tokens(answer(kit.models["aligned"], jobs))


def test_only_the_likeliest_token_is_plausible_at_one(kit, make_jobs, answer):
    """Contrastive decoding with a = 1 is the model's own greedy decoding."""
    jobs = make_jobs()
    found = answer(kit.model, jobs, steer(kit, expert="", anti="small", plausible=1.0))
    assert tokens(found) == tokens(answer(kit.model, make_jobs(temperature=0)))


def test_names_of_the_literature_are_settings(kit):
    """Emulated fine-tuning is the same sum; contrastive decoding has no expert."""
    assert ProxyTuning(**ProxyTuning.presets["emulated_fine_tuning"]) == ProxyTuning()
    contrastive = ProxyTuning(**ProxyTuning.presets["contrastive_decoding"])
    assert (contrastive.expert, contrastive.plausible) == ("", 0.1)
    with pytest.raises(PlumblineError, match=r"names no model 'amateur'; add a section"):
        contrastive.steer(kit, Fitted())


def test_teacher_forcing_sees_what_decoding_saw(kit, make_jobs, answer):
    """Its density is that of the sum, and its KL is that of the expert where it is the expert."""
    jobs = make_jobs(budget=6)
    steering = steer(kit)
    drawn = tokens(answer(kit.model, jobs, steering))
    expert = logprobs(kit.models["aligned"], jobs, drawn)
    for a, b in zip(logprobs(kit.model, jobs, drawn, steering), expert, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert min(sequence_kl(kit.model, jobs, drawn, steering)) > 0


def test_each_token_is_read_once_by_each_model(llama, make_model, other, make_jobs, answer):
    """The cost is one token of each model for every token drawn."""
    model, ledger = make_model("llama", ends=False), Ledger()
    kit = Kit(model, models={"aligned": other(1), "small": other(2, "small")})
    jobs = make_jobs(budget=6)
    with kit.models["aligned"].metered(ledger), kit.models["small"].metered(ledger):
        answer(model, jobs, steer(kit, anti="small"))
    read = sum(len(model.encode(j.chat)) + 5 for j in jobs)
    assert ledger.tokens == {"aligned": read, "small": read}


def test_another_vocabulary_is_refused(llama, make_model):
    """Probabilities of different tokens are not added."""
    kit = Kit(llama, models={"aligned": make_model("llama", kind="pieces")})
    with pytest.raises(PlumblineError, match="have different vocabularies"):
        steer(kit)


def test_a_network_that_cannot_be_masked_is_refused(llama, make_network):
    """A window over the past would be read wrongly, so it is not read."""
    net = make_network("mistral-window", len(llama.tokenizer))
    windowed = Model(net, llama.tokenizer, llama.template, name="windowed", role="aligned")
    with pytest.raises(PlumblineError, match="windowed has layers that do not attend"):
        steer(Kit(llama, models={"aligned": windowed}))


def test_a_prompt_the_expert_cannot_read_is_refused(kit, make_jobs, answer):
    """An expert with too little context stops the run with one clear line."""
    kit.models["aligned"].context = 20
    with pytest.raises(PlumblineError, match="aligned reads 20 tokens, too few"):
        answer(kit.model, make_jobs(budget=8), steer(kit))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"plausible": 1.5}, r"plausible is 1.5; it must lie in \[0, 1\]"),
        ({"expert": "", "anti": ""}, "neither expert nor anti is set"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    """Strength and share have bounds, and something must be added."""
    with pytest.raises(PlumblineError, match=message):
        ProxyTuning(**fields)
