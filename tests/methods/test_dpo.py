"""DPO as a method: what it learns, what it refuses, what it leaves, and stacks with others."""

import warnings

import pytest
import torch

from harness.chat import Chat
from harness.conduct.stacks import stacks
from harness.contracts.method import Fitted, Lab
from harness.engine.decoding import Job, decode
from harness.engine.sampling import Sampling
from harness.engine.steering import HiddenEdit, Site, Steering
from harness.engine.tiny import tiny_model
from harness.errors import PlumblineError
from harness.records import Preference
from methods import dpo
from methods._preference_rows import rows_of
from methods.dpo import BETAS, Dpo, answer_logprobs

GREEDY = Sampling(temperature=0.0, max_new_tokens=12)
PAIRS = [
    Preference(f"p{i}", Chat.of(f"Question {i}?"), f"Gladly, {i}.", f"No, never {i}.")
    for i in range(8)
]


@pytest.fixture(scope="module")
def model():
    """Give the tiny model."""
    return tiny_model()


@pytest.fixture(scope="module")
def lab(model):
    """Give a lab of eight pairs, and four held out."""
    held = [Preference(f"d{i}", p.prompt, p.chosen, p.rejected) for i, p in enumerate(PAIRS[:4])]
    return Lab(model, pairs=PAIRS, dev=held)


@pytest.fixture(scope="module")
def method():
    """Give a small DPO whose alpha is not its rank."""
    return Dpo(rank=4, alpha=8, epochs=3, batch=8)


@pytest.fixture(scope="module")
def fitted(lab, method):
    """Give what it learns."""
    return method.fit(lab)


def answers(model, steering):
    """Answer three questions greedily."""
    jobs = [Job(str(i), Chat.of(f"Question {i}?"), GREEDY) for i in range(3)]
    done = {d.job: d.tokens for batch in decode(model, jobs, steering) for d in batch}
    return [done[i] for i in range(3)]


def test_it_learns_to_tell_pairs_apart(lab, method, fitted):
    """The preferred answers become likelier beside the rejected ones; facts say how far."""
    rows, _ = rows_of(lab, PAIRS)
    base = answer_logprobs(lab, rows)
    with method.steer(lab, fitted).weights():
        good, bad = (answer_logprobs(lab, rows) - base).chunk(2)
    assert float((good - bad).min()) > 0
    facts = fitted.facts
    assert facts["pairs"] == 8
    assert facts["steps"] == 3
    assert facts["loss"][0] == pytest.approx(0.693147, abs=1e-5)
    assert facts["held_out"]["pairs"] == 4
    assert facts["held_out"]["accuracy"] == 1.0
    assert facts["held_out"]["margin"] == pytest.approx(float((good - bad)[:4].mean()), abs=1e-3)
    assert "warnings" not in facts


def test_log_probabilities_are_the_engine_s(lab):
    """Our reading of pairs, in batches of any size, is the engine's own teacher forcing."""
    from harness.engine.density import logprobs

    rows, _ = rows_of(lab, [PAIRS[0], *(Preference("", p.prompt, "Yes", "Why?") for p in PAIRS)])
    jobs = [Job(str(i), p.prompt, GREEDY) for i, p in enumerate([PAIRS[0], *PAIRS])]
    sides = [[r.chosen for r in rows], [r.rejected for r in rows]]
    wanted = torch.cat(
        [torch.stack([t.double().sum() for t in logprobs(lab.model, jobs, s)]) for s in sides]
    )
    torch.testing.assert_close(answer_logprobs(lab, rows), wanted, atol=1e-4, rtol=1e-5)


def test_merged_and_beside_answer_alike(lab, method, fitted):
    """Both ways of applying the adapters draw the same greedy tokens, other than the base's."""
    aside = Dpo(rank=4, alpha=8, merge=False)
    tuned = answers(lab.model, method.steer(lab, fitted))
    assert tuned == answers(lab.model, aside.steer(lab, fitted))
    assert tuned != answers(lab.model, None)


def test_without_strength_it_is_the_base_model(lab, fitted):
    """At strength 0 nothing is fitted and nothing touched; with fresh adapters nothing changes."""
    off = Dpo(strength=0.0)
    assert off.fit(lab) == Fitted()
    assert not off.steer(lab, fitted).touches
    fresh = {n: torch.zeros_like(t) if "lora_B" in n else t for n, t in fitted.tensors.items()}
    rows, _ = rows_of(lab, PAIRS)
    base = answer_logprobs(lab, rows)
    with Dpo(rank=4, alpha=8).steer(lab, Fitted(fresh)).weights():
        assert torch.equal(answer_logprobs(lab, rows), base)


def test_peft_reads_what_is_stored(lab, method, fitted):
    """The fit's tensors are a PEFT adapter: PEFT's own model with them has our logits."""
    import copy

    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    config = LoraConfig(**fitted.facts["lora"], target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        tuned = get_peft_model(copy.deepcopy(lab.model.net), config)
    assert not set_peft_model_state_dict(tuned, dict(fitted.tensors)).unexpected_keys
    ids = torch.tensor([lab.model.encode(Chat.of("Question 1?"))])
    with torch.no_grad(), method.steer(lab, fitted).weights():
        mine = lab.model.net(ids).logits
    torch.testing.assert_close(mine, tuned.eval()(ids).logits, atol=1e-4, rtol=1e-4)


def test_the_rate_goes_by_the_width():
    """Left open, it is 5e-5 at a width of 4096 and in inverse proportion elsewhere."""
    assert Dpo().recipe(4096, 0, 8).learning_rate == pytest.approx(5e-5)
    assert Dpo().recipe(128, 0, 8).learning_rate == pytest.approx(1.6e-3)
    assert Dpo(learning_rate=1e-6).recipe(128, 0, 8).learning_rate == 1e-6


def test_little_data_is_read_three_times():
    """Below 2,000 pairs there are three epochs, from there on one, unless the field says."""
    assert Dpo().recipe(64, 0, 1999).epochs == 3
    assert Dpo().recipe(64, 0, 2000).epochs == 1
    assert Dpo(epochs=2).recipe(64, 0, 5000).epochs == 2


def test_every_loss_has_its_own_beta():
    """Left open, beta is the loss's usual one; label flips are for the robust loss alone."""
    for loss, beta in BETAS.items():
        recipe = Dpo(loss=loss).recipe(128, 0, 8)
        assert recipe.beta == beta
        assert recipe.flips == (0.1 if loss == "robust" else 0.0)
    assert BETAS["sigmoid_norm"] == 5.0


def test_shuffled_labels_are_what_training_sees(lab, monkeypatch):
    """The ablation hands training rows of which some are turned round."""
    seen = {}

    def spy(lab, rows, recipe, folder):
        seen[len(seen)] = rows
        raise KeyboardInterrupt

    monkeypatch.setattr(dpo, "train", spy)
    for ablation in ("none", "shuffled"):
        with pytest.raises(KeyboardInterrupt):
            Dpo(ablation=ablation).fit(lab)
    plain = rows_of(lab, PAIRS)[0]
    assert seen[0] == plain
    turned = [a.chosen == b.rejected for a, b in zip(seen[1], plain, strict=True)]
    assert 0 < sum(turned) < len(plain)


def test_a_fit_that_tells_nothing_apart_warns(lab, method, monkeypatch):
    """Held-out pairs at the level of luck make a warning that tables show."""
    fitted = Fitted({})
    monkeypatch.setattr(dpo, "train", lambda *_: dpo.Trained(_untrained(lab), [0.7], 1))
    fitted = method.fit(lab)
    assert fitted.facts["warnings"] == [
        "the tuned model tells 0% of held-out pairs apart; half is luck"
    ]


def _untrained(lab):
    linear = lab.model.net.get_submodule("model.layers.0.mlp.up_proj")
    path = "base_model.model.model.layers.0.mlp.up_proj"
    return {
        f"{path}.lora_A.weight": torch.ones(4, linear.in_features),
        f"{path}.lora_B.weight": torch.zeros(linear.out_features, 4),
    }


# ------------------------------------------------------------------ stacks


def test_what_changes_the_model_stands_to_its_right(lab):
    """Left of it only prompt edits may stand; the refusal says what to write."""
    left = Steering(hidden=(HiddenEdit(Site.layer(0), lambda h, _: h),))
    with pytest.raises(PlumblineError, match=r"it changes hidden; write dpo first: dpo\+"):
        Dpo().fit(Lab(lab.model, pairs=PAIRS, left=left))


@pytest.mark.parametrize("right", ["alignez", "recontrol(prompts=0)"])
def test_it_stacks_with_state_edits(lab, method, fitted, right):
    """Methods to its right record and answer through the tuned weights, and both apply."""
    from harness.conduct.check import Subject
    from harness.conduct.plugins import method_class
    from harness.contracts.method import Stack

    name = right.split("(")[0]
    subject = Subject(name, method_class(name)[1])
    stack = stacks(f"dpo(rank=4,alpha=8)+{right}")[0]
    left = stack.parts[0].method.steer(lab, fitted)
    given = subject.lab(left=left)
    given.model = lab.model
    learned = stack.parts[1].method.fit(given)
    steering = Stack(stack.parts).steer(given, [fitted, learned])
    assert "weights" in steering.touches
    assert all(answers(lab.model, steering))


def test_two_changes_of_weights_are_refused(lab, method, fitted):
    """A stack may change the weights once."""
    steering = method.steer(lab, fitted)
    with pytest.raises(PlumblineError, match="two methods in the stack change the weights"):
        steering + steering


# --------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"beta": 0.0}, "dpo.beta is 0.0"),
        ({"learning_rate": -1.0}, "dpo.learning_rate is -1.0"),
        ({"flips": 0.5}, r"dpo.flips is 0.5; it must lie in \[0, 0.5\)"),
        ({"rank": 0}, "dpo.rank is 0; it must be 1 or more"),
        ({"epochs": 0}, "dpo.epochs is 0"),
        ({"max_length": -1}, "dpo.max_length is -1; it must be 0 or more"),
        ({"batch": 10, "together": 4}, "the second must divide the first"),
    ],
)
def test_a_field_out_of_range_is_one_line(fields, said):
    """Values that cannot be are refused when the method is built."""
    with pytest.raises(PlumblineError, match=said):
        Dpo(**fields)


def test_pairs_with_identical_sides_are_no_pairs(model):
    """With nothing but identical sides there is nothing to learn, and the line says so."""
    same = [Preference("p", Chat.of("q"), "yes", "yes")] * 3
    with pytest.raises(PlumblineError, match=r"no preference pair is left .*\(3 equal answers"):
        Dpo().fit(Lab(model, pairs=same))


def test_what_is_too_long_is_counted(model, method):
    """Pairs over max_length are in the facts, and training never sees a piece of them."""
    pairs = [*PAIRS, Preference("long", Chat.of("word " * 60), "yes", "no")]
    found = Dpo(rank=2, epochs=1, max_length=100).fit(Lab(model, pairs=pairs))
    assert found.facts["left_out"] == {"empty answer": 0, "equal answers": 0, "too long": 1}
    assert found.facts["pairs"] == len(PAIRS)
