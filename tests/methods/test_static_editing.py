"""Static editing: what is added where, how much, and how the place is chosen."""

import pytest
import torch

from harness.chat import Chat
from harness.contracts.method import Fitted
from harness.engine.density import logprobs
from harness.engine.steering import HiddenEdit, Site, Steering
from harness.errors import PlumblineError
from harness.records import Preference
from methods.static_editing import StaticEditing, added

QUICK = {"layer": 2, "strength": 1.0}


def fitted(lab, **fields):
    """Fit with a given layer and strength, unless said otherwise."""
    method = StaticEditing(**{**QUICK, **fields})
    return method, method.fit(lab)


def states(lab, site, at="mean"):
    """Read both sides' states the slow obvious way: one text at a time."""
    sides = []
    for answers in ([p.chosen for p in lab.pairs], [p.rejected for p in lab.pairs]):
        rows = []
        for pair, answer in zip(lab.pairs, answers, strict=True):
            kept = []
            ids = lab.model.encode(pair.prompt)
            drawn = lab.model.tokenizer(answer, add_special_tokens=False).input_ids
            block = lab.model.net.model.layers[site.index]
            handle = block.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
            with torch.no_grad():
                lab.model.net(torch.tensor([ids + drawn]))
            handle.remove()
            hidden = kept[0][0, len(ids) :]
            rows.append(hidden[-1] if at == "last" else hidden.mean(0))
        sides.append(torch.stack(rows))
    return sides


@pytest.mark.parametrize("at", ["last", "mean"])
def test_the_vector_is_the_mean_difference_of_answers(make_lab, at):
    """The vector is mean(h+ - h-) over the pairs, read after the block that is edited."""
    lab = make_lab()
    _, learnt = fitted(lab, fit_at=at)
    good, bad = states(lab, Site.layer(2), at)
    assert torch.allclose(learnt.tensors["layer 2"], (good - bad).mean(0), atol=1e-5)


@pytest.mark.parametrize(("edit_at", "where"), [("last", "draws"), ("after_prompt", "response")])
@pytest.mark.parametrize("layer", [1, 2])
def test_an_edit_does_what_the_formula_foretells(
    make_lab, compiled, enumerated, edit_at, where, layer
):
    """On the compiled model the law of every answer is foretold to 1e-6."""
    from benchmarks.planted.compiled import Push

    lab = make_lab()
    method, learnt = fitted(lab, layer=layer, strength=1.5, edit_at=edit_at)
    vector = 1.5 * learnt.tensors[f"layer {layer}"].double()
    prompt = enumerated.prompts[0]
    found = enumerated.tree(prompt, method.steer(lab, learnt)).log_law().exp()
    push = Push(Site.layer(layer), vector, where)
    foretold = compiled.tree(prompt.chat, [push], enumerated.budget).log_law().exp()
    assert (found - foretold).abs().max().item() < 1e-6
    assert (found - enumerated.base[0].log_law().exp()).abs().max().item() > 1e-3


@pytest.mark.parametrize("direction", ["mean", "pca", "probe", "regression"])
def test_every_direction_is_kind(make_lab, make_pairs, exact_gain, direction):
    """Before the trait is written, every direction raises exact kindness; reversed it lowers it."""
    lab = make_lab(pairs=make_pairs(each=4))
    for strength, sign in ((1.0, 1), (-1.0, -1)):
        method, learnt = fitted(lab, layer=1, direction=direction, strength=strength)
        assert sign * exact_gain(method.steer(lab, learnt)) > 0.1


def test_what_reads_kindness_need_not_write_it(make_lab, make_pairs, exact_gain):
    """After the trait is written a probe reads kindness off the words; the mean still moves it."""
    lab = make_lab(pairs=make_pairs(each=4))
    gains = {}
    for direction in ("mean", "probe"):
        method, learnt = fitted(lab, layer=2, direction=direction)
        gains[direction] = exact_gain(method.steer(lab, learnt))
    assert gains["mean"] > 0.1 > gains["probe"]


def test_random_directions_of_equal_length_are_no_match(make_lab, make_pairs, exact_gain):
    """The mean difference gains more than 19 at least of 20 random directions of its length."""
    lab = make_lab(pairs=make_pairs(each=4))
    fields = {"layer": 1, "strength": 0.5}
    method, learnt = fitted(lab, **fields)
    mine, gains = exact_gain(method.steer(lab, learnt)), []
    for number in range(20):
        control, drawn = fitted(lab, direction="random", draw=number, **fields)
        length = drawn.tensors["layer 1"].norm()
        assert torch.allclose(length, learnt.tensors["layer 1"].norm(), rtol=1e-5)
        gains.append(exact_gain(control.steer(lab, drawn)))
    assert sum(mine > gain for gain in gains) >= 19


def test_the_scale_is_what_it_says(make_lab):
    """A strength of 1 is the mean difference's length, 1, the state's length, or one sigma."""
    lab = make_lab()
    good, bad = states(lab, Site.layer(2))
    length = {}
    for scale in ("norm", "absolute", "state", "sigma"):
        _, learnt = fitted(lab, scale=scale)
        length[scale] = float(learnt.tensors["layer 2"].norm())
    along = (good - bad).mean(0)
    sigma = float((torch.cat([good, bad]) @ (along / along.norm())).std())
    assert length["norm"] == pytest.approx(float(along.norm()), rel=1e-5)
    assert length["absolute"] == pytest.approx(1)
    assert length["sigma"] == pytest.approx(sigma, rel=1e-4)
    hidden = torch.randn(2, 3, 16)
    moved = added(0.1 * torch.eye(16)[0], True)(hidden, None) - hidden
    assert torch.allclose(moved[..., 0], 0.1 * hidden.norm(dim=-1), atol=1e-5)
    assert torch.allclose(moved[..., 1:], torch.zeros(2, 3, 15))


def test_padding_does_not_enter_a_direction(make_lab, make_model):
    """Pairs of different lengths read together give the vector they give one at a time."""
    labs = [make_lab(make_model("llama"), pairs=byte_pairs(), batch_rows=n) for n in (64, 1)]
    for site in ("resid", "mlp"):
        together, alone = (fitted(lab, site=site)[1].tensors for lab in labs)
        for name, vector in together.items():
            assert torch.allclose(vector, alone[name], atol=1e-5)


def test_prompt_positions_are_not_edited(make_lab, make_model, make_jobs):
    """The prompt is read unedited: but for its last token when "last" says so."""
    model = make_model("llama")
    lab = make_lab(model, pairs=byte_pairs())
    seen = {}

    def look(name):
        def keep(hidden, step):
            if step.is_prompt:
                seen[name] = hidden.clone()
            return hidden

        return Steering(hidden=(HiddenEdit(Site.layer(1), keep),))

    from harness.engine.decoding import decode

    jobs = make_jobs(budget=2)
    for name in ("none", "last", "after_prompt"):
        steering = Steering()
        if name != "none":
            method, learnt = fitted(lab, layer=1, strength=3.0, edit_at=name)
            steering = method.steer(lab, learnt)
        list(decode(model, jobs, steering + look(name)))
    assert torch.equal(seen["after_prompt"], seen["none"])
    assert torch.equal(seen["last"][:, :-1], seen["none"][:, :-1])
    assert not torch.allclose(seen["last"][:, -1], seen["none"][:, -1])


def byte_pairs(count=12):
    """Make pairs for a model that reads bytes."""
    return [
        Preference(f"p{i}", Chat.of(f"what is {i}?"), f"Yes, it is {i}.", f"No {'!' * (i % 3)}")
        for i in range(count)
    ]


def test_layer_and_strength_are_chosen_by_the_granted_reward(make_lab):
    """The setting with the largest mean reward on development prompts wins; all are reported."""
    lab = make_lab()
    facts = StaticEditing().fit(lab).facts
    trials = facts["trials"]
    assert trials[0]["unsteered"]
    assert [t["strength"] for t in trials[1:]] == [1.0] * 4 + [0.5, 2.0, 4.0]
    assert {t["sites"] for t in trials[1:5]} == {f"layer {i}" for i in range(4)}
    best = max(trials[1:], key=lambda t: t["reward"])
    assert [facts["strength"], facts["sites"]] == [
        best["strength"],
        [["layer", int(best["sites"][-1])]],
    ]
    assert facts["dev_prompts"] == 8


def test_an_edit_that_helps_nobody_is_said(make_lab, make_judge):
    """Where no setting raises the reward, the facts carry a warning."""
    flat = make_lab(reward=make_judge(lambda chat, text: 1.0))
    assert "no edit raised" in StaticEditing().fit(flat).facts["warnings"][0]
    assert StaticEditing().fit(make_lab()).facts["warnings"] == []


def test_without_a_reward_the_probe_chooses(make_lab):
    """With no granted reward the most accurate layer is taken, at the usual strength."""
    facts = StaticEditing().fit(make_lab(reward=None)).facts
    assert facts["strength"] == 1.0
    best = max(facts["accuracy"].values())
    layer = facts["sites"][0][1]
    assert facts["accuracy"][f"layer {layer}"] == best
    assert "trials" not in facts


def test_heads_are_ranked_and_only_the_best_are_edited(make_lab, make_model):
    """The most accurate heads over all layers get a vector; every other head gets none."""
    model = make_model("llama")
    lab = make_lab(model, pairs=byte_pairs(20))
    method = StaticEditing(site="heads", heads=3, scale="sigma", strength=5.0)
    learnt = method.fit(lab)
    table = learnt.facts["accuracy"]
    given = {
        (name, head)
        for name, vector in learnt.tensors.items()
        for head in range(len(vector))
        if float(vector[head].norm()) > 0
    }
    assert len(given) == 3
    worst = min(table[name][head] for name, head in given)
    others = [a for n, row in table.items() for h, a in enumerate(row) if (n, h) not in given]
    assert worst >= max(others)
    assert all(v.shape == (4, 8) for v in learnt.tensors.values())
    assert method.steer(lab, learnt).touches == {"hidden"}


def test_neutral_strength_touches_nothing(make_lab):
    """Strength 0 fits nothing and edits nothing."""
    method = StaticEditing(strength=0.0)
    assert method.fit(make_lab()) == Fitted()
    assert method.steer(make_lab(), Fitted()) == Steering()


def test_a_right_neighbour_reads_the_prompted_model(make_lab):
    """In a stack the states are read, and the trials run, behind the left neighbour's prompt."""
    left = Steering(prompt=(lambda chats: [Chat.of("c c c") for _ in chats],))
    alone = fitted(make_lab())[1].tensors["layer 2"]
    right = fitted(make_lab(left=left))[1].tensors["layer 2"]
    assert not torch.allclose(alone, right)


def test_scores_of_a_text_are_those_of_decoding(make_lab, planted, make_jobs):
    """Teacher forcing under the edit gives the log-probabilities that decoding had."""
    lab = make_lab()
    method, learnt = fitted(lab)
    steering = method.steer(lab, learnt)
    jobs = make_jobs(("a b", "c"), budget=3)
    tokens = [(3, 4, 7), (5, 7)]
    together = logprobs(planted, jobs, tokens, steering)
    alone = [logprobs(planted, [j], [t], steering)[0] for j, t in zip(jobs, tokens, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


# ---------------------------------------------------------------- bad input


def test_too_few_and_useless_pairs_are_refused(make_lab, make_pairs):
    """Too few pairs, empty answers and equal answers are counted in one clear line."""
    with pytest.raises(PlumblineError, match="there are 5"):
        fitted(make_lab(pairs=make_pairs()[:5]))
    same = [Preference(p.id, p.prompt, p.chosen, p.chosen) for p in make_pairs()]
    with pytest.raises(PlumblineError, match="24 with equal answers"):
        fitted(make_lab(pairs=same))
    empty = [Preference(p.id, p.prompt, p.chosen, "") for p in make_pairs()]
    with pytest.raises(PlumblineError, match="24 with empty answer"):
        fitted(make_lab(pairs=empty))


def test_what_is_left_out_is_counted(make_lab, make_pairs):
    """An empty answer is left out of the direction, and counted."""
    pairs = make_pairs()
    pairs[3] = Preference("x", pairs[3].prompt, "", "a")
    facts = fitted(make_lab(pairs=pairs))[1].facts
    assert facts["pairs"] == 23
    assert facts["dropped"] == {"empty answer": 1, "equal answers": 0, "too long": 0}


def test_a_layer_out_of_range_is_refused(make_lab):
    """A layer that the model does not have is refused, with those it has."""
    with pytest.raises(PlumblineError, match=r"4 blocks, so the index must lie in \[-4, 3\]"):
        fitted(make_lab(), layer=4)


def test_a_site_the_architecture_lacks_is_refused(make_lab, planted, monkeypatch):
    """A feed-forward part that cannot be found is refused, with a way to name it."""
    from harness.engine import sites

    monkeypatch.setattr(sites, "_MLP", ("ffn",))
    with pytest.raises(PlumblineError, match="no feed-forward part of a block found"):
        fitted(make_lab(), site="mlp")


def test_a_reward_that_is_missing_or_nan_is_refused(make_lab, make_judge):
    """A regression needs a reward model that gives numbers; so does the choice of a strength."""
    with pytest.raises(PlumblineError, match="grants no reward model"):
        fitted(make_lab(reward=None), direction="regression")
    broken = make_judge(lambda chat, text: float("nan"))
    with pytest.raises(PlumblineError, match="is NaN"):
        fitted(make_lab(reward=broken), direction="regression")
    with pytest.raises(PlumblineError, match="gives NaN"):
        StaticEditing().fit(make_lab(reward=broken))


def test_no_development_pairs_to_choose_on_is_refused(make_lab):
    """Choosing a strength needs development pairs; a given strength does not."""
    with pytest.raises(PlumblineError, match="no development pairs"):
        StaticEditing().fit(make_lab(dev=[]))
    fitted(make_lab(dev=[]))


@pytest.mark.parametrize(
    "fields", [{"heads": 0}, {"pairs": 0}, {"dev": 0}, {"site": "heads", "layer": 1}]
)
def test_impossible_fields_are_refused(fields):
    """Fields that make no sense are refused when the method is built."""
    with pytest.raises(PlumblineError, match="static_editing"):
        StaticEditing(**fields)


def test_trials_run_behind_the_left_neighbour(make_lab):
    """Strengths are compared on top of what the left neighbour does, doing nothing included."""
    left = Steering(prompt=(lambda chats: [Chat.of("c c c") for _ in chats],))
    alone = StaticEditing(layer=2).fit(make_lab()).facts["trials"]
    right = StaticEditing(layer=2).fit(make_lab(left=left)).facts["trials"]
    assert all(a["reward"] != b["reward"] for a, b in zip(alone[:2], right[:2], strict=True))


def test_places_are_ranked_by_pairs_that_the_probe_has_not_seen():
    """A probe fits noise in many dimensions perfectly; its rank is what it does on other pairs."""
    from methods._pair_states import held_accuracy

    rng = torch.Generator().manual_seed(0)
    good, bad = torch.randn(2, 40, 64, generator=rng)
    assert held_accuracy(good, bad) < 0.8
    assert held_accuracy(good + 1, bad - 1) > 0.9
    assert held_accuracy(good[:6], bad[:6]) == 0.5
