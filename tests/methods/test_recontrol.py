"""Properties 1 to 14 of a faithful RE-CONTROL, numbered as its specification numbers them.

4, 5 and 10 are in test_value_head.py, 7, 8 and 9 in test_value_training.py; what needs a whole
method is here.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from harness.chat import Chat
from harness.contracts.method import Fitted
from harness.engine.recording import record
from harness.engine.steering import HiddenEdit, Site, Steering
from harness.errors import PlumblineError
from harness.records import Preference
from methods._choosing import diversity
from methods._trajectories import collect, repeated
from methods._value_head import Ascent, ValueHead
from methods.recontrol import DOSES, Recontrol, alpha_for, at_draws, moved

PLANTED = {"samples": 40, "hidden": 32, "layers": 3, "epochs": 20, "dev": 8, "learning_rate": 3e-3}


def head_for(width, layers=3, seed=0):
    """Draw a head."""
    return ValueHead.drawn(width, 24, layers, torch.Generator().manual_seed(seed))


def edited(head, alpha=1.0, n=10, ablation="none"):
    """Steer by a head."""
    change = moved(Ascent.on(head, alpha, n), ablation)
    return Steering(hidden=(HiddenEdit(Site.final(), at_draws(change)),))


def looking(kept):
    """Keep what the lm_head would read at every position that draws."""

    def look(hidden, step):
        kept.append(hidden[:, -1].clone())
        return hidden

    return Steering(hidden=(HiddenEdit(Site.final(), look),))


@pytest.fixture(scope="module")
def learnt(make_lab):
    """Fit on the compiled model, once for this file."""

    @cache
    def fit(**fields):
        return Recontrol(**{**PLANTED, **fields}).fit(make_lab())

    return fit


@pytest.fixture(scope="module")
def gain(make_lab, exact_gain, learnt):
    """Give the exact gain of a fit on the compiled model, under other fields."""

    def measure(fields, tensors=None, **facts):
        fitted = learnt()
        given = Fitted(tensors or fitted.tensors, {**fitted.facts, **facts})
        return exact_gain(Recontrol(**fields).steer(make_lab(), given))

    return measure


# ------------------------------------------------------------ 1, 2, 3: the edit


@pytest.mark.parametrize(("alpha", "n"), [(0.0, 30), (1.0, 0)])
def test_1_no_step_is_the_base_model(tiny, make_jobs, answer, alpha, n):
    """1. With n = 0 or alpha = 0 answers and logits are the base model's bit for bit."""
    head = head_for(tiny.net.lm_head.in_features)
    jobs = make_jobs(temperature=0.0)
    kept, base = [], []
    for into, steering in ((kept, edited(head, alpha, n)), (base, Steering())):
        for rows in (64, 1):
            found = answer(tiny, jobs, steering + _logits(into), batch_rows=rows)
            into.append([a.tokens for a in found])
    for mine, theirs in zip(kept, base, strict=True):
        assert torch.equal(mine, theirs) if torch.is_tensor(mine) else mine == theirs


def _logits(into):
    def keep(logits, step):
        into.append(logits.clone())
        return logits

    return Steering(logits=(keep,))


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "gpt_neox"])
def test_2_the_edited_tensor_is_what_the_lm_head_reads(make_model, make_jobs, answer, name):
    """2. lm_head(o_t) is the base logits, and training features are the states of decoding."""
    model = make_model(name)
    states, logits = [], []
    job = make_jobs(("hello there",), temperature=0.0)
    found = answer(model, job, looking(states) + _logits(logits))[0]
    assert len(states) == len(found.tokens)
    for state, scores in zip(states, logits, strict=True):
        assert torch.allclose(model.net.lm_head(state), scores, atol=1e-5)
    read = next(record(model, [job[0].chat], [found.tokens], [Site.final()], at="draws"))
    features = read.states[Site.final()][0]
    assert torch.allclose(features, torch.cat(states), atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_3_the_cache_is_never_edited(make_model, make_jobs, answer, name):
    """3. Teacher-forcing the edited answer through the base model gives every o_t unedited."""
    model = make_model(name)
    head = head_for(model.net.lm_head.in_features)
    jobs, before = make_jobs(("hello there",), temperature=0.0), []
    base = answer(model, jobs)[0]
    found = answer(model, jobs, looking(before) + edited(head, 20.0, 10))[0]
    assert found.tokens != base.tokens
    read = next(record(model, [jobs[0].chat], [found.tokens], [Site.final()], at="draws"))
    assert torch.allclose(read.states[Site.final()][0], torch.cat(before), atol=1e-4)


def test_4_u_is_added_once_in_float32():
    """4. The state moves by the ascent's u, rounded once to the state's own precision."""
    head = head_for(8)
    states = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    climb = Ascent.on(head, 0.5, 30)
    change = moved(climb, "none")
    assert torch.equal(change(states), (states.float() + climb(states)).bfloat16())


@pytest.mark.parametrize("everywhere", [False, True])
def test_6_padding_and_other_rows_do_not_matter(make_model, make_jobs, answer, everywhere):
    """6. Answers do not depend on the batch, its padding, or finished rows beside them."""
    model = make_model("llama")
    change = moved(Ascent.on(head_for(32), 5.0, 10), "none")
    steering = Steering(hidden=(HiddenEdit(Site.final(), at_draws(change, everywhere)),))
    jobs = make_jobs(budget=16)
    together = [a.tokens for a in answer(model, jobs, steering, batch_rows=64)]
    alone = [a.tokens for a in answer(model, jobs, steering, batch_rows=1)]
    assert together == alone
    assert together != [a.tokens for a in answer(model, jobs, Steering(), batch_rows=64)]


def test_6_only_positions_that_draw_are_edited(make_model, make_jobs, answer):
    """6. At the prompt every position but the last stays as it was."""
    model, seen = make_model("llama"), {}

    def look(name):
        def keep(hidden, step):
            if step.is_prompt:
                seen[name] = hidden.clone()
            return hidden

        return Steering(hidden=(HiddenEdit(Site.final(), keep),))

    jobs = make_jobs(budget=1)
    answer(model, jobs, look("before"))
    answer(model, jobs, edited(head_for(32)) + look("after"))
    assert torch.equal(seen["before"][:, :-1], seen["after"][:, :-1])
    assert bool((seen["before"][:, -1] != seen["after"][:, -1]).any(-1).all())


def test_a_constant_slope_is_a_push_that_the_formula_foretells(compiled, enumerated):
    """On the compiled model a V without kinks moves every law as foretold, to 1e-6."""
    from benchmarks.planted.compiled import Push

    rng = torch.Generator().manual_seed(0)
    head = ValueHead(
        torch.randn(24, 16, generator=rng) / 4, torch.full((24,), 50.0),
        torch.randn(24, generator=rng) / 4, torch.zeros(()),
    )  # fmt: skip
    steering = edited(head, 0.05, 10)
    u = 10 * 0.05 * head.first.T.double() @ head.out.double()
    prompt = enumerated.prompts[0]
    found = enumerated.tree(prompt, steering).log_law().exp()
    push = Push(Site.final(), u, "draws")
    foretold = compiled.tree(prompt.chat, [push], enumerated.budget).log_law().exp()
    assert (found - foretold).abs().max().item() < 1e-6
    assert (found - enumerated.base[0].log_law().exp()).abs().max().item() > 1e-3


# ------------------------------------------------------ 7 to 14: the whole method


def test_7_trajectories_hold_every_state_that_drew_a_token(make_lab, planted, tmp_path):
    """7. One state a token, the one that drew the end among them, the answer's reward beside it."""
    lab = make_lab()
    prompts = repeated(_prompts(lab)[:5], 2)
    shards = collect(lab, prompts, tmp_path, "x", size=4)
    assert len(shards.files) == 3
    decoded = lab.generate(prompts)
    lengths = torch.cat([shards.load(i).lengths for i in range(3)]).tolist()
    assert lengths == [len(d.tokens) for d in decoded]
    assert shards.rewards.tolist() == lab.reward.score(
        [p.chat for p in prompts], [d.text for d in decoded]
    )
    first = shards.load(0)
    logits = planted.net.lm_head(first.states[first.ends])
    ended = [d.tokens[-1] for d in decoded[:4]]
    assert float(logits.log_softmax(-1).gather(1, torch.tensor(ended)[:, None]).min()) > -12
    read = next(record(planted, [prompts[3].chat], [decoded[3].tokens], [Site.final()], at="draws"))
    mine = first.some(torch.tensor([3])).states
    assert torch.allclose(mine, read.states[Site.final()][0], atol=1e-5)


def _prompts(lab):
    from methods._choosing import prompts_of

    return prompts_of(lab.pairs, 0, "value")


def test_8_official_sets_the_published_switches():
    """8. compat="official" is the first anchor, the residual bootstrap, 16 bits, every position."""
    recipe = Recontrol(compat="official").recipe(64)
    assert (recipe.anchor, recipe.bootstrap, recipe.dtype) == ("first", "residual", torch.bfloat16)
    assert Recontrol(compat="official").everywhere
    paper = Recontrol().recipe(64)
    assert (paper.anchor, paper.bootstrap, paper.dtype) == ("last", "stopgrad", torch.float32)
    assert (paper.hidden, Recontrol(hidden=9).recipe(64).hidden) == (64, 9)
    assert not Recontrol().everywhere


def test_8_official_runs(make_lab, make_jobs, planted, answer):
    """8. The published variant can be fitted and answers, on raw rewards."""
    method = Recontrol(**PLANTED | {"samples": 2, "compat": "official", "alpha": 0.1, "n": 5})
    fitted = method.fit(make_lab())
    assert (fitted.facts["reward_mean"], fitted.facts["reward_std"]) == (0.0, 1.0)
    assert all(a.tokens for a in answer(planted, make_jobs(("a", "b c"), budget=3),
                                        method.steer(make_lab(), fitted)))  # fmt: skip


def test_9_the_value_network_knows_more_towards_the_end(learnt):
    """9. On held-out prompts V beats the constant, and knows more at the end than at the start."""
    facts = learnt().facts
    quality = facts["r_squared"]
    assert quality["1"] > 0.6
    assert quality["1"] > quality["0.5"] > quality["0"]
    assert facts["warnings"] == []
    assert len(facts["loss"]) == PLANTED["epochs"]


def test_9_the_value_network_is_the_exact_value_function(learnt, enumerated):
    """9. V at every state is close to the exact expected reward from there on."""
    fitted = learnt()
    head = ValueHead.of(fitted.tensors)
    mean, std = fitted.facts["reward_mean"], fitted.facts["reward_std"]
    found, exact = [], []
    for prompt, tree, rewards in zip(
        enumerated.prompts, enumerated.base, enumerated.rewards, strict=True
    ):
        full = [t for t in enumerated.answers if len(t) == enumerated.budget and 7 not in t]
        jobs = [prompt.chat] * len(full)
        for batch in record(
            enumerated.model, jobs, full, [Site.final()], at="draws", batch_rows=512
        ):
            for number, states in zip(batch.texts, batch.states[Site.final()], strict=True):
                for depth, values in enumerate(tree.values(rewards)[: len(states)]):
                    index = 0
                    for token in full[number][:depth]:
                        index = index * tree.branch + token
                    found.append(float(head(states[depth])) * std + mean)
                    exact.append(float(values[index]))
    assert float(torch.corrcoef(torch.tensor([found, exact]))[0, 1]) > 0.7


def test_10_rewards_on_another_scale_give_the_same_answers(make_lab, planted, make_jobs, answer):
    """10. c times V's output layer and alpha / c answer the same, token for token."""
    head, jobs = head_for(16), make_jobs(("a b", "c", "b b"), temperature=0.0, budget=4)
    plain = answer(planted, jobs, edited(head, 0.8, 10))
    scaled = answer(planted, jobs, edited(head.scaled(16.0), 0.05, 10))
    assert [a.tokens for a in plain] == [a.tokens for a in scaled]


def test_10_the_scale_of_the_reward_model_does_not_matter(make_lab, make_judge, kindness):
    """10. Rewards are standardised: ten times the reward plus three fits the same V and alpha."""
    other = make_lab(reward=make_judge(lambda chat, text: 10 * kindness(chat, text) + 3))
    fields = {**PLANTED, "samples": 2, "n": 10, "dose": 0.2}
    one, ten = Recontrol(**fields).fit(make_lab()), Recontrol(**fields).fit(other)
    assert ten.facts["alpha"] == pytest.approx(one.facts["alpha"], rel=1e-3)
    assert ten.facts["reward_std"] == pytest.approx(10 * one.facts["reward_std"], rel=1e-6)
    assert torch.allclose(ten.tensors["first"], one.tensors["first"], atol=1e-4)


def test_11_more_steps_give_more_reward_and_longer_edits(gain, learnt):
    """11. At a small alpha the exact reward, V and |u|/|o| rise with n."""
    gains = [gain({}, alpha=0.02, n=n) for n in (1, 5, 20)]
    assert 0 < gains[0] < gains[1] < gains[2]
    trials = learnt().facts["trials"][1 : 1 + len(DOSES)]
    assert [t["dose"] for t in trials] == sorted(t["dose"] for t in trials)
    edit = learnt().facts["edit"]
    assert edit["relative"] > 0
    assert edit["value_gain"] > 0
    assert edit["improved"] >= 0.95


def test_12_the_direction_matters(gain, learnt):
    """12. At equal |u| a random direction gains little, -u loses, V of dealt-out rewards little."""
    ascent = gain({})
    assert ascent > 0.2
    assert gain({"ablation": "random"}) < ascent / 2
    assert gain({"ablation": "minus"}) < -0.1
    dealt = learnt(ablation="shuffled", dose=0.2, n=10)
    assert gain({}, dealt.tensors, alpha=dealt.facts["alpha"], n=10) < ascent / 2
    assert dealt.facts["r_squared"]["1"] < learnt().facts["r_squared"]["1"] / 2


def test_13_diversity_of_distinct_words_is_known():
    """13. N distinct words have diversity (N - 3) / N; three or fewer have none."""
    for n in (0, 1, 3, 4, 5, 10, 100):
        words = " ".join(map(str, range(n)))
        assert diversity(words) == pytest.approx(max(0, n - 3) / max(n, 1))
    assert diversity("a a a a a a") < 0.1


def test_14_nothing_of_the_test_is_read(make_lab, learnt):
    """14. Strengths are chosen on development prompts; no test prompt or answer is read."""
    lab, asked = make_lab(), []
    plain = lab.generate

    def generate(prompts, **how):
        asked.extend(p.chat for p in prompts)
        return plain(prompts, **how)

    lab.generate = generate
    Recontrol(**PLANTED | {"samples": 1, "epochs": 1}).fit(lab)
    assert not lab.transductive
    assert set(asked) == {p.prompt for p in lab.pairs} | {p.prompt for p in lab.dev}
    assert all(chat.messages[-1].role == "user" for chat in asked)


def test_alpha_and_n_are_chosen_by_the_granted_reward(learnt):
    """The best trial's alpha and n are kept, doses first, then fewer steps at the best dose."""
    facts = learnt().facts
    trials = facts["trials"][1:]
    assert [t["n"] for t in trials] == [30] * len(DOSES) + [10]
    best = max(trials, key=lambda t: t["reward"])
    assert (facts["alpha"], facts["n"]) == (best["alpha"], best["n"])
    first = max(trials[: len(DOSES)], key=lambda t: t["reward"])
    assert trials[len(DOSES)]["alpha"] == pytest.approx(first["alpha"] * 3)


def test_the_papers_rule_adds_diversity_and_coherence(make_lab):
    """choose="paper" takes the largest sum of reward, diversity and coherence."""
    facts = (
        Recontrol(**PLANTED | {"samples": 2, "choose": "paper", "epochs": 2}).fit(make_lab()).facts
    )
    trials = facts["trials"][1:]
    best = max(trials, key=lambda t: t["reward"] + t["diversity"] + t["coherence"])
    assert facts["alpha"] == best["alpha"]
    assert facts["chosen_by"] == "paper"
    assert any(t["coherence"] != 0 for t in trials)


def test_a_dose_is_the_relative_length_of_the_edit():
    """alpha_for gives the alpha at which a V without kinks moves the median state by the dose."""
    head = ValueHead(torch.eye(8), torch.full((8,), 50.0), torch.ones(8), torch.zeros(()))
    states = torch.randn(51, 8, generator=torch.Generator().manual_seed(0))
    u = Ascent.on(head, alpha_for(head, states, 0.3, 7), 7)(states)
    assert float((u.norm(dim=-1) / states.norm(dim=-1)).median()) == pytest.approx(0.3, rel=1e-4)
    flat = ValueHead(**{**head.tensors(), "out": torch.zeros(8)})
    with pytest.raises(PlumblineError, match="flat"):
        alpha_for(flat, states, 0.3, 7)


def test_a_right_neighbour_learns_from_the_prompted_model(make_lab):
    """In a stack V is learnt from answers of the model as its left neighbours have steered it."""
    left = Steering(prompt=(lambda chats: [Chat.of("c c c") for _ in chats],))
    fields = {**PLANTED, "samples": 2, "alpha": 1.0, "n": 5, "epochs": 1}
    alone = Recontrol(**fields).fit(make_lab()).facts["reward_mean"]
    assert Recontrol(**fields).fit(make_lab(left=left)).facts["reward_mean"] != alone


def test_trials_run_behind_the_left_neighbour(make_lab):
    """Alpha is chosen on top of what the left neighbour does, doing nothing included."""
    left = Steering(prompt=(lambda chats: [Chat.of("c c c") for _ in chats],))
    fields = {**PLANTED, "samples": 2, "n": 5, "epochs": 1}
    alone = Recontrol(**fields).fit(make_lab()).facts["trials"]
    right = Recontrol(**fields).fit(make_lab(left=left)).facts["trials"]
    assert alone[0]["reward"] != right[0]["reward"]


# ----------------------------------------------------------------- bad input


def test_a_missing_reward_model_is_refused(make_lab):
    """Without a granted reward model there is nothing to learn from."""
    with pytest.raises(PlumblineError, match="grants no reward model"):
        Recontrol().fit(make_lab(reward=None))


def test_nan_rewards_in_training_are_refused(make_lab, make_judge):
    """A NaN among the training rewards is named with its prompt."""
    broken = make_judge(lambda chat, text: float("nan") if chat.last_user == "b" else 1.0)
    with pytest.raises(PlumblineError, match=r"gives nan for 2 of .* first to 'b'"):
        Recontrol(**PLANTED | {"samples": 2}).fit(make_lab(reward=broken))


def test_rewards_all_alike_are_refused(make_lab, make_judge):
    """A reward that never varies teaches nothing."""
    with pytest.raises(PlumblineError, match="all alike"):
        Recontrol(**PLANTED | {"samples": 1}).fit(
            make_lab(reward=make_judge(lambda chat, text: 2.0))
        )


def test_a_value_network_that_beats_no_constant_is_said(make_lab, make_judge):
    """A reward that no state foretells gives a warning among the facts, not silence."""
    import hashlib

    def noise(chat, text):
        return float(hashlib.sha256(f"{chat.last_user}|{text}".encode()).digest()[0])

    lab = make_lab(reward=make_judge(noise))
    facts = Recontrol(**PLANTED | {"samples": 3, "alpha": 0.1, "n": 5}).fit(lab).facts
    assert facts["r_squared"]["1"] < 2 * facts["r_squared_error"]
    assert "does not beat a constant" in facts["warnings"][0]


def test_too_few_prompts_are_refused(make_lab, make_pairs):
    """Nine prompts leave none to judge V on."""
    with pytest.raises(PlumblineError, match="10 training prompts or more; there are 9"):
        Recontrol().fit(make_lab(pairs=make_pairs()[:9]))


def test_no_development_pairs_are_refused_only_where_needed(make_lab):
    """A choice of alpha needs development prompts; a given alpha and n do not."""
    fields = PLANTED | {"samples": 1, "epochs": 1}
    with pytest.raises(PlumblineError, match="no development pairs"):
        Recontrol(**fields).fit(make_lab(dev=[]))
    facts = Recontrol(**fields, alpha=0.5, n=3).fit(make_lab(dev=[])).facts
    assert (facts["alpha"], facts["n"]) == (0.5, 3)


@pytest.mark.parametrize(
    "fields",
    [{"hidden": -1}, {"epochs": 0}, {"batch": 0}, {"n": -1}, {"dev": 0}, {"samples": 0},
     {"learning_rate": 0.0}, {"alpha": 1.0, "dose": 0.1}, {"trace": 1.5}, {"trace": -0.1},
     {"anchor": "first"}, {"bootstrap": "residual"}],
)  # fmt: skip
def test_impossible_fields_are_refused(fields):
    """Fields that make no sense are refused when the method is built."""
    with pytest.raises(PlumblineError, match="recontrol"):
        Recontrol(**fields)


def test_neutral_fits_nothing(make_lab):
    """With n = 0 nothing is fitted and nothing is touched."""
    assert Recontrol(n=0).fit(make_lab()) == Fitted()
    assert Recontrol(n=0).steer(make_lab(), Fitted()) == Steering()


# ------------------------------------------------------------------- memory


@pytest.mark.slow
def test_memory_does_not_grow_with_the_prompts():
    """Peak memory of collecting and training at 8,000 prompts is that at 1,000, within a shard.

    The C library gives every tensor back at once here; left to itself it keeps a heap of holes.
    """
    code = Path(__file__).with_name("recontrol_memory.py")
    peaks = {}
    for count in (1000, 8000):
        done = subprocess.run(
            [sys.executable, str(code), str(count)], capture_output=True, text=True, check=True,
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"},
        )  # fmt: skip
        peaks[count], shard = map(float, done.stdout.split())
    assert peaks[8000] - peaks[1000] < shard, (peaks, shard)


def test_pairs_repeat_no_prompt(make_lab):
    """A prompt with several labelled pairs is answered once a sample."""
    lab = make_lab()
    lab.pairs = [*lab.pairs, *(Preference(f"again {p.id}", p.prompt, "a", "b") for p in lab.pairs)]
    assert len(_prompts(lab)) == 24


def test_2_the_fitted_method_moves_the_logits_by_w_u(make_lab, planted, learnt, make_jobs, answer):
    """2. The first token's logits under the method are W (o + u(o)), o being the recorded state."""
    method, fitted = Recontrol(**PLANTED), learnt()
    jobs, logits = make_jobs(("a b",), budget=1), []
    answer(planted, jobs, method.steer(make_lab(), fitted) + _logits(logits))
    read = next(record(planted, [jobs[0].chat], [(7,)], [Site.final()], at="draws"))
    o = read.states[Site.final()][0]
    u = Ascent.on(ValueHead.of(fitted.tensors), fitted.facts["alpha"], fitted.facts["n"])(o)
    assert torch.allclose(logits[0], planted.net.lm_head(o + u), atol=1e-5)


def test_9_v_is_judged_on_prompts_it_was_not_trained_on(make_lab):
    """9. Held-out answers are to other prompts than the training answers."""
    lab, calls = make_lab(), []
    plain = lab.generate

    def generate(prompts, **how):
        calls.append({p.chat for p in prompts})
        return plain(prompts, **how)

    lab.generate = generate
    Recontrol(**PLANTED | {"samples": 1, "epochs": 1, "alpha": 1.0, "n": 3}).fit(lab)
    train, held = calls
    assert (len(train), len(held)) == (22, 2)
    assert not train & held
