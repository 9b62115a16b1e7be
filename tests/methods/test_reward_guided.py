"""Properties of ARGS (arXiv 2402.01694), on networks small enough to write the search out."""

import itertools

import pytest
import torch

from harness.chat import Chat
from harness.contracts.method import Fitted, Kit
from harness.engine.density import logprobs, sequence_kl
from harness.engine.prefixes import OtherTokens, SameTokens, Whole
from harness.engine.sampling import draw, uniforms
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from methods.reward_guided import RewardGuided


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def steer(method, model, judge):
    """Steer as a run does."""
    return method.steer(Kit(model, reward=judge), Fitted())


def whole_reward(judge, model, chat, drawn, z):
    """Score [s, z] by one pass over the whole text, closed as the judge's template closes it."""
    closing = judge.template.render(chat.assistant("|")).rpartition("|")[2]
    if judge.tokenizer is not model.tokenizer:
        return judge.score([chat], [model.text([*drawn, z]).strip()])[0]
    words = judge.tokenizer(judge.template.render(chat), add_special_tokens=judge.template.bos)
    suffix = judge.tokenizer(closing, add_special_tokens=False).input_ids
    text = [*words.input_ids, *drawn, *([] if z in model.ends else [z]), *suffix]
    return float(judge.net(input_ids=torch.tensor([text])).logits)


def by_hand(model, judge, job, method, *, seed=0, prompted=lambda chat: chat, boost=0.0):
    """ARGS written out: one prompt, no cache, every candidate read from its first token."""
    budget = job.sampling.max_new_tokens
    prompt, drawn = model.encode(prompted(job.chat)), []
    luck = uniforms((seed, job.id, 0, 0), budget)
    with torch.no_grad():
        while len(drawn) < budget and not (drawn and drawn[-1] in model.ends):
            logits = model.net(torch.tensor([prompt + drawn])).logits[0, -1].float()
            logits[list(model.ends)] += boost
            scores = torch.full_like(logits, float("-inf"))
            for z in logits.topk(method.k).indices.tolist():
                r = whole_reward(judge, model, job.chat, drawn, z)
                scores[z] = logits[z] + method.w * r  # raw logits, as the published code has it
            if method.rule == "greedy":
                drawn.append(int(scores.argmax()))
            else:
                u = torch.tensor([luck[len(drawn)]])
                drawn.append(int(draw(scores[None] / method.tau, u)))
    return tuple(drawn)


WAYS = {
    "greedy": RewardGuided(w=3.0, k=6, rule="greedy"),
    "sample": RewardGuided(w=3.0, k=6),
    "cooler": RewardGuided(w=3.0, k=4, tau=0.7),
}


@pytest.mark.parametrize("batch_rows", [64, 2])
@pytest.mark.parametrize("template", ["human-assistant", "vicuna"])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_published_search(
    llama, way, template, batch_rows, make_jobs, make_reward, answer
):
    """Packed, cached and batched, it draws what a search without caches draws."""
    judge, jobs = make_reward(template=template, max_length=400), make_jobs(budget=8)
    steering = steer(WAYS[way], llama, judge)
    found = tokens(answer(llama, jobs, steering, batch_rows=batch_rows))
    assert found == [by_hand(llama, judge, job, WAYS[way]) for job in jobs]
    assert found != tokens(answer(llama, jobs))


@pytest.mark.parametrize("template", ["human-assistant", "vicuna"])
def test_an_end_token_weighs_the_finished_answer(llama, template, make_jobs, make_reward, answer):
    """Where ending is likely it is a candidate, and its reward is that of the answer as it is."""
    judge, jobs = make_reward(template=template, max_length=400), make_jobs(budget=8)
    soon = Steering(logits=(lambda z, s: z + 4 * (torch.arange(z.shape[-1]) == 2),))
    for way in ("greedy", "sample"):
        found = tokens(answer(llama, jobs, soon + steer(WAYS[way], llama, judge)))
        assert found == [by_hand(llama, judge, job, WAYS[way], boost=4.0) for job in jobs]
    assert any(len(ids) < 8 for ids in found)


def test_it_is_the_published_search_with_another_tokenizer(llama, make_jobs, make_reward, answer):
    """A reward model that cuts words otherwise is read anew from where the text differs."""
    judge, jobs = make_reward(kind="pieces"), make_jobs(budget=6)
    found = tokens(answer(llama, jobs, steer(WAYS["greedy"], llama, judge)))
    assert found == [by_hand(llama, judge, job, WAYS["greedy"]) for job in jobs]


def test_the_reward_model_reads_the_users_words_only(llama, make_jobs, make_reward, answer):
    """Right of a prompt edit the policy reads the edited prompt, the reward model the bare one."""

    def kinder(chat):
        return chat.with_system("Be kind and truthful.")

    judge, jobs = make_reward(), make_jobs(budget=6)
    prompt = Steering(prompt=(lambda chats: [kinder(c) for c in chats],))
    found = tokens(answer(llama, jobs, prompt + steer(WAYS["greedy"], llama, judge)))
    expected = [by_hand(llama, judge, j, WAYS["greedy"], prompted=kinder) for j in jobs]
    assert found == expected


@pytest.mark.parametrize("k", [0, 5])
def test_no_weight_is_the_model_under_the_same_truncation(llama, k, make_jobs, make_reward, answer):
    """At w = 0 it is top-k sampling, or greedy decoding; at k = 0 nothing is truncated."""
    judge = make_reward()
    found = answer(llama, make_jobs(), steer(RewardGuided(w=0.0, k=k), llama, judge))
    assert tokens(found) == tokens(answer(llama, make_jobs(top_k=k)))
    greedy = steer(RewardGuided(w=0.0, k=k, rule="greedy"), llama, judge)
    assert tokens(answer(llama, make_jobs(), greedy)) == tokens(
        answer(llama, make_jobs(temperature=0))
    )


def test_one_candidate_is_greedy_decoding(llama, make_jobs, make_reward, answer):
    """With k = 1 no weight matters."""
    steering = steer(RewardGuided(w=50.0, k=1), llama, make_reward())
    assert tokens(answer(llama, make_jobs(), steering)) == tokens(
        answer(llama, make_jobs(temperature=0))
    )


def test_a_large_weight_takes_the_best_reward_among_the_candidates(
    llama, make_jobs, make_reward, answer
):
    """As w grows the choice is argmax r within the top k."""
    judge, jobs = make_reward(), make_jobs(budget=5)
    found = answer(llama, jobs, steer(RewardGuided(w=1e6, k=4), llama, judge))
    with torch.no_grad():
        for job, d in zip(jobs, found, strict=True):
            drawn = []
            for token in d.tokens:
                ids = torch.tensor([llama.encode(job.chat) + drawn])
                top = llama.net(ids).logits[0, -1].topk(4).indices.tolist()
                assert token == max(
                    top, key=lambda z: whole_reward(judge, llama, job.chat, drawn, z)
                )
                drawn.append(token)


class Odd:
    """A reward model that is any function of a conversation and an answer."""

    name, max_length = "odd", 1 << 30

    def __init__(self, function):
        self.function = function

    def score(self, chats, texts):
        """Score each answer."""
        return [self.function(chat, text) for chat, text in zip(chats, texts, strict=True)]

    def of_candidates(self, model):
        """Score every text whole."""
        return Whole(self)


def test_a_constant_reward_changes_nothing(llama, make_jobs, answer):
    """A reward that is the same for all candidates leaves the model as it is, at any weight."""
    steering = steer(RewardGuided(w=7.0, k=5), llama, Odd(lambda chat, text: 3.0))
    assert tokens(answer(llama, make_jobs(), steering)) == tokens(answer(llama, make_jobs(top_k=5)))


def test_an_offset_of_the_reward_changes_nothing(llama, make_jobs, answer):
    """A reward plus a constant is the same reward."""
    plain, moved = (
        steer(RewardGuided(w=1.5, k=5), llama, Odd(lambda chat, text, c=c: len(text) % 5 + c))
        for c in (0.0, 100.0)
    )
    jobs = make_jobs()
    assert tokens(answer(llama, jobs, plain)) == tokens(answer(llama, jobs, moved))


@pytest.mark.parametrize(("w", "k", "tau"), [(0.7, 0, 1.0), (2.0, 3, 1.0), (1.0, 0, 0.5)])
def test_on_the_enumerable_world_the_law_is_the_tilt(enumerated, kindness, w, k, tau):
    """Every token's law is p(z|s) exp(w r([s, z])) over the k likeliest, to rounding."""
    model, judge = enumerated.model, Odd(kindness)
    steering = steer(RewardGuided(w=w, k=k, tau=tau), model, judge)
    for prompt, base in zip(enumerated.prompts, enumerated.base, strict=True):
        found = enumerated.tree(prompt, steering)
        for depth, (law, p) in enumerate(zip(found.levels, base.levels, strict=True)):
            for row, prefix in enumerate(itertools.product(range(base.branch), repeat=depth)):
                rewards = torch.tensor(
                    [
                        kindness(prompt.chat, model.text([*prefix, z]).strip())
                        for z in range(base.branch + 1)
                    ]
                )
                score = p[row] + w * rewards
                if k:
                    score[p[row] < p[row].topk(k).values[-1]] = float("-inf")
                expected = (score / tau).log_softmax(-1)
                assert torch.allclose(law[row].exp(), expected.exp(), atol=1e-5)


def test_its_kl_is_that_of_its_law(enumerated, kindness):
    """The KL the table prints is the exact per-step KL of the tilted law."""
    from harness.engine.decoding import Job
    from harness.engine.sampling import Sampling

    model = enumerated.model
    steering = steer(RewardGuided(w=2.0, k=3), model, Odd(kindness))
    prompt, answer = enumerated.prompts[0], enumerated.answers[-7]
    job = Job(prompt.id, prompt.chat, Sampling(max_new_tokens=enumerated.budget))
    (kl,) = sequence_kl(model, [job], [answer], steering)
    tilted, base = enumerated.tree(prompt, steering), enumerated.base[0]
    expected, row = 0.0, 0
    for depth, token in enumerate(answer):
        q, p = tilted.levels[depth][row], base.levels[depth][row]
        expected += float((q.exp() * (q - p))[q > -torch.inf].sum())
        row = row * base.branch + token
    assert kl == pytest.approx(expected, abs=1e-4)
    assert kl > 0.1


def test_it_raises_its_own_reward(llama, make_jobs, make_reward, answer):
    """Answers guided by a reward have more of it than the model's own, mean over prompts."""
    judge, jobs = make_reward(), make_jobs([f"question {i}" for i in range(24)], budget=12)

    def mean(steering):
        found = answer(llama, jobs, steering)
        return sum(judge.score([j.chat for j in jobs], [d.text for d in found])) / len(jobs)

    gain = mean(steer(RewardGuided(w=10.0, k=20), llama, judge)) - mean(Steering())
    assert gain > 0.2


def test_teacher_forcing_sees_what_decoding_saw(llama, make_jobs, make_reward, answer):
    """No drawn token has probability zero, whatever the batch it is read in."""
    judge, jobs = make_reward(template="vicuna", max_length=400), make_jobs(budget=8)
    steering = steer(WAYS["sample"], llama, judge)
    drawn = tokens(answer(llama, jobs, steering))
    together = logprobs(llama, jobs, drawn, steering)
    alone = logprobs(llama, jobs, drawn, steering, batch_rows=1)
    for a, b in zip(together, alone, strict=True):
        assert torch.isfinite(a).all()
        assert torch.allclose(a, b, atol=1e-4)


def test_it_goes_with_best_of_n(llama, make_jobs, make_reward, answer):
    """Each candidate of a search follows its own reading: candidate 0 is the plain answer."""
    judge, jobs = make_reward(), make_jobs(budget=6)
    steering = steer(WAYS["sample"], llama, judge)
    first = Steering(search=Search(3, lambda rows: -rows.slot.double()))
    assert tokens(answer(llama, jobs, steering + first)) == tokens(answer(llama, jobs, steering))


def test_the_reading_is_chosen_by_the_tokenizers(llama, make_reward):
    """The same tokenizer is fed ids, another one words."""
    assert isinstance(make_reward().of_candidates(llama), SameTokens)
    assert isinstance(make_reward(kind="pieces").of_candidates(llama), OtherTokens)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"k": -2}, "reward_guided.k is -2"), ({"tau": 0.0}, "reward_guided.tau is 0.0")],
)
def test_values_out_of_range_are_refused(fields, message):
    """Candidates and temperature have bounds."""
    with pytest.raises(PlumblineError, match=message):
        RewardGuided(**fields)


def test_more_candidates_than_tokens_are_refused(llama, make_reward):
    """More than the vocabulary gives one clear line, before anything is decoded."""
    with pytest.raises(PlumblineError, match=r"k is 4000, and the model's vocabulary has \d+"):
        steer(RewardGuided(k=4000), llama, make_reward())


def test_by_default_there_are_ten_candidates_or_all_there_are(llama, enumerated):
    """A vocabulary of eight tokens is no error where k was not asked for."""
    from benchmarks.planted.language import VOCABULARY

    judge = Odd(lambda chat, text: 0.0)
    (many,) = steer(RewardGuided(w=0.0), llama, judge).logits
    logits = torch.randn(2, llama.vocabulary, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(many(logits, None)).sum(-1).tolist() == [10, 10]
    (few,) = steer(RewardGuided(w=0.0), enumerated.model, judge).logits
    assert torch.isfinite(few(logits[:, : len(VOCABULARY)], None)).all()


def test_a_reward_model_with_several_numbers_is_refused(llama, make_reward):
    """What returns a vector is no reward model."""
    from harness.engine.reward import RewardModel

    judge = make_reward()
    net = judge.net
    net.config.num_labels = 3
    try:
        with pytest.raises(PlumblineError, match="returns 3 numbers for a text"):
            RewardModel(net, judge.tokenizer, judge.template, name="three")
    finally:
        net.config.num_labels = 1


def test_a_prompt_that_leaves_the_reward_model_no_room_is_refused(
    llama, make_jobs, make_reward, answer
):
    """A conversation longer than the reward model reads stops the run with one clear line."""
    judge = make_reward(max_length=30)
    jobs = make_jobs(("tell me " * 8,))
    with pytest.raises(PlumblineError, match="tiny reward reads 30 tokens, too few"):
        answer(llama, jobs, steer(RewardGuided(), llama, judge))
    assert Chat.of("tell me " * 8) == jobs[0].chat
