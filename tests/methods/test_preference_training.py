"""Training: TRL's losses held against formulas written out here, and what it leaves behind."""

import copy
import math
import os
import random

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid, sigmoid

from harness.chat import Chat
from harness.contracts.method import Fitted, Lab
from harness.engine.tiny import tiny_model
from harness.ledger import Ledger
from harness.records import Preference
from methods._preference_rows import rows_of
from methods._preference_training import RunningMean, _answers, bco_loss, train
from methods.dpo import BETAS, Dpo, answer_logprobs

FIRST = {  # with fresh adapters h is 0 everywhere
    "sigmoid": math.log(2),
    "sigmoid_norm": math.log(2),
    "robust": math.log(2),
    "ipo": 25.0,
    "kto": 0.5,
    "bco": 2 * math.log(2),
}
WORDS = ("Of course, gladly.", "No.", "Sure, here it is: all of it.", "Go away!")
PAIRS = [
    Preference(f"p{i}", Chat.of(f"Question {i}"), WORDS[i % 4] + str(i), WORDS[(i + 1) % 4])
    for i in range(4)
]


@pytest.fixture(scope="module")
def model():
    """Give the tiny model."""
    return tiny_model()


@pytest.fixture
def lab(model):
    """Give a lab with four pairs of uneven lengths."""
    return Lab(model, pairs=PAIRS)


def _recipe(loss, **fields):
    """All four pairs in every step, in one pass."""
    given = {"loss": loss, "epochs": 2, "batch": 4, "together": 4, "alpha": 8, "rank": 4, **fields}
    return Dpo(**given), Dpo(**given).recipe(32, 5, 8)


def _trained(lab, folder, loss="sigmoid", **fields):
    method, recipe = _recipe(loss, **fields)
    rows, _ = rows_of(lab, lab.pairs)
    return method, rows, recipe, train(lab, rows, recipe, folder)


def _ratios(lab, method, rows, tensors):
    """Give h of every answer, preferred ones first, by our own forward passes."""
    base = answer_logprobs(lab, rows)
    with method.steer(lab, Fitted(tensors)).weights():
        return answer_logprobs(lab, rows) - base


def _expected(loss, h, rows, recipe):
    """Write each loss out for all pairs at once."""
    beta, good, bad = recipe.beta, *h.chunk(2)
    per = torch.tensor([len(r.chosen) for r in rows] + [len(r.rejected) for r in rows])
    mean_good, mean_bad = (h / per).chunk(2)
    if loss == "sigmoid":
        return -logsigmoid(beta * (good - bad)).mean()
    if loss == "sigmoid_norm":
        return -logsigmoid(beta * (mean_good - mean_bad)).mean()
    if loss == "ipo":
        return ((mean_good - mean_bad - 1 / (2 * beta)) ** 2).mean()
    if loss == "robust":
        e, margin = recipe.flips, beta * (good - bad)
        return ((-(1 - e) * logsigmoid(margin) + e * logsigmoid(-margin)) / (1 - 2 * e)).mean()
    delta = beta * h.mean() / 2  # of this step's rewards and the first step's, which are 0
    return -(logsigmoid(beta * good - delta) + logsigmoid(delta - beta * bad)).mean()


@pytest.mark.parametrize("loss", FIRST)
def test_the_first_loss_is_the_listed_one(lab, tmp_path, loss):
    """Before the first step the tuned model is the base model, whatever the loss."""
    beta = 0.1 if loss == "ipo" else None
    *_, found = _trained(lab, tmp_path, loss, epochs=1, beta=beta)
    assert found.losses == pytest.approx([FIRST[loss]], abs=1e-5)


@pytest.mark.parametrize("loss", [loss for loss in FIRST if loss != "kto"])
def test_the_second_loss_is_the_formula_s(lab, tmp_path, loss):
    """After one step, TRL's loss is the published formula over our own log-probabilities."""
    method, rows, recipe, one = _trained(lab, tmp_path / "1", loss, epochs=1)
    *_, two = _trained(lab, tmp_path / "2", loss, epochs=2)
    h = _ratios(lab, method, rows, one.tensors)
    assert float(h.abs().max()) > 0.5
    wanted = float(_expected(loss, h, rows, recipe))
    assert two.losses[1] == pytest.approx(wanted, rel=1e-3)
    assert abs(wanted - FIRST[loss]) > 0.02


def test_kto_reads_each_answer_on_its_own(lab, tmp_path):
    """KTO's second loss is the formula's, with z from answers moved to the next prompt."""
    method, rows, recipe, one = _trained(lab, tmp_path / "1", "kto", epochs=1)
    *_, two = _trained(lab, tmp_path / "2", "kto", epochs=2)
    singles = _answers(rows, recipe)

    def h(key):
        """Give h of one answer a row."""
        from methods._preference_rows import Row

        made = [Row(s["prompt_ids"], s[key], s[key]) for s in singles]
        return _ratios(lab, method, made, one.tensors).chunk(2)[0]

    good = torch.tensor([s["label"] for s in singles])
    own, z = h("completion_ids"), h("KL_completion_ids").mean().clamp(min=0)
    sign = torch.where(good, 1.0, -1.0)
    wanted = float((1 - sigmoid(recipe.beta * sign * (own - z))).mean())
    assert two.losses[1] == pytest.approx(wanted, rel=1e-3)
    assert abs(wanted - 0.5) > 0.01


def test_kto_s_rows_are_every_answer_once(lab):
    """A pair becomes two rows of opposite labels; beside each stands an answer of another row."""
    rows, _ = rows_of(lab, lab.pairs)
    singles = _answers(rows, _recipe("kto")[1])
    assert sorted(s["label"] for s in singles) == [False] * 4 + [True] * 4
    good = sorted(s["completion_ids"] for s in singles if s["label"])
    assert good == sorted(r.chosen for r in rows)
    assert sorted(s["KL_completion_ids"] for s in singles) == sorted(
        s["completion_ids"] for s in singles
    )
    assert all(s["KL_completion_ids"] is not s["completion_ids"] for s in singles)


@pytest.mark.parametrize("loss", ["sigmoid", "kto", "bco"])
def test_reading_the_reference_before_or_on_the_way_is_the_same(lab, tmp_path, loss):
    """Precomputed reference log-probabilities change neither the first loss nor any other."""
    *_, before = _trained(lab, tmp_path / "1", loss, epochs=4)
    *_, along = _trained(lab, tmp_path / "2", loss, epochs=4, precompute=False)
    assert before.losses == pytest.approx(along.losses, abs=1e-4)
    assert before.losses[-1] < before.losses[0]


def test_equal_lengths_make_the_normalised_loss_the_plain_one(model, tmp_path):
    """On answers of L tokens, sigmoid_norm at beta b L is sigmoid at b, step for step."""
    pairs = [Preference(f"{i}", Chat.of(f"q{i}"), f"yes{i}", f"not{i}") for i in range(4)]
    lab = Lab(model, pairs=pairs)
    length = 5  # four bytes and the end
    *_, plain = _trained(lab, tmp_path / "1", "sigmoid", epochs=5, beta=0.2)
    *_, norm = _trained(lab, tmp_path / "2", "sigmoid_norm", epochs=5, beta=0.2 * length)
    assert norm.losses == pytest.approx(plain.losses, abs=2e-4)


def test_swapped_sides_change_the_loss_by_the_margin(lab, tmp_path):
    """-log s(m) of the pairs as they are less that of the turned ones is -m, and training sees it.

    The margin comes out positive on the labels that were trained on.
    """
    method, rows, recipe, one = _trained(lab, tmp_path, epochs=6)
    h = _ratios(lab, method, rows, one.tensors)
    margin = recipe.beta * (h.chunk(2)[0] - h.chunk(2)[1])
    turned = -logsigmoid(-margin) + logsigmoid(margin)
    torch.testing.assert_close(turned, margin)
    assert float(margin.min()) > 0


def test_bco_s_shift_is_the_mean_of_all_rewards_so_far():
    """Delta runs over both classes and all passes, and takes no gradient."""
    shift = RunningMean()
    h = torch.tensor([1.0, 3.0, -2.0, 0.0], requires_grad=True)
    one = bco_loss(h, 0.5, shift)
    delta = 0.25
    wanted = -(logsigmoid(0.5 * h[:2] - delta) + logsigmoid(delta - 0.5 * h[2:])).mean()
    torch.testing.assert_close(one, wanted)
    bco_loss(torch.full((4,), 4.0), 0.5, shift)
    assert shift.total / shift.count == pytest.approx((4 * 0.25 + 4 * 2.0) / 8)
    slope = torch.autograd.grad(one, h)[0]
    fixed = torch.autograd.grad(wanted, h)[0]
    torch.testing.assert_close(slope, fixed)


def _hooks(net):
    """Count them: the library may have left some of its own on a network shared by tests."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def test_training_leaves_no_trace(lab, tmp_path):
    """Weights, modules, tokenizer, configuration and every global state are as they were."""
    net = lab.model.net
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    hooks = _hooks(net)
    classes = [type(m) for m in net.modules()]
    config, words = copy.deepcopy(net.config.to_dict()), lab.model.tokenizer.pad_token
    torch.manual_seed(3)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    _trained(lab, tmp_path)
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert (before[2] == after[2]).all()
    assert all(torch.equal(weights[k], v) for k, v in net.state_dict().items())
    assert [type(m) for m in net.modules()] == classes
    assert "forward" not in vars(net)
    assert _hooks(net) == hooks
    assert not any(p.requires_grad for p in net.parameters())
    assert net.config.to_dict() == config
    assert lab.model.tokenizer.pad_token == words
    assert "TQDM_DISABLE" not in os.environ


def test_weights_are_not_held_twice(lab, tmp_path, monkeypatch):
    """The trained network's base weights are the policy's own tensors."""
    from methods import _preference_training as training

    seen = []
    own = training._own_modules
    monkeypatch.setattr(training, "_own_modules", lambda net: seen.append(own(net)) or seen[-1])
    _trained(lab, tmp_path, epochs=1)
    there = {p.data_ptr() for p in lab.model.net.parameters()}
    base = [p for n, p in seen[0].named_parameters() if "lora_" not in n]
    assert base
    assert all(p.data_ptr() in there for p in base)
    assert seen[0] is not lab.model.net


def test_every_token_is_counted(lab, tmp_path):
    """Training costs the reference's reading once and a reading an epoch, on the policy's bill."""
    ledger = Ledger()
    with lab.model.metered(ledger):
        _, rows, *_ = _trained(lab, tmp_path, epochs=3)
    assert ledger.tokens == {"policy": 4 * sum(r.tokens for r in rows)}


def test_an_interrupted_training_starts_again_cleanly(lab, tmp_path, monkeypatch):
    """Stopped half-way, the model is as it was, and training again gives what one go gives."""
    from methods import _preference_training as training

    *_, whole = _trained(lab, tmp_path / "1", epochs=3)
    told = []

    def stop(advance, trainer):
        told.append(trainer)
        watch = real(advance, trainer)
        if len(told) == 1:
            watch.on_step_end = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        return watch

    real = training._watcher
    monkeypatch.setattr(training, "_watcher", stop)
    before = answer_logprobs(lab, rows_of(lab, lab.pairs)[0])
    with pytest.raises(KeyboardInterrupt):
        _trained(lab, tmp_path / "2", epochs=3)
    assert "TQDM_DISABLE" not in os.environ
    assert torch.equal(answer_logprobs(lab, rows_of(lab, lab.pairs)[0]), before)
    *_, again = _trained(lab, tmp_path / "2", epochs=3)
    assert again.losses == whole.losses
    assert all(torch.equal(again.tensors[k], v) for k, v in whole.tensors.items())


def test_progress_is_shown(lab, tmp_path, monkeypatch):
    """One bar moves once a step, and says the loss."""
    from contextlib import contextmanager

    from methods import _preference_training as training

    moved = []

    @contextmanager
    def bar(what, total):
        moved.append((what, total))
        yield lambda amount, note: moved.append((amount, note))

    monkeypatch.setattr(training, "progress", bar)
    _trained(lab, tmp_path, epochs=3, batch=2, together=2)
    assert moved[0] == ("sigmoid on 4 pairs", 6)
    assert [amount for amount, _ in moved[1:]] == [1] * 6
    assert moved[1][1] == "loss 0.693"


def test_warming_up_takes_a_tenth_of_the_steps_at_most(lab, tmp_path):
    """A run of a few steps starts at the full rate: its first step moves the adapters."""
    _, _, recipe, found = _trained(lab, tmp_path, epochs=1)
    assert recipe.steps(4) == 1
    assert any(t.abs().max() > 0 for name, t in found.tensors.items() if "lora_B" in name)


@pytest.mark.parametrize("loss", BETAS)
def test_several_passes_a_step_are_one_step(lab, tmp_path, loss):
    """Pairs pushed together or one after another make as many steps."""
    *_, found = _trained(lab, tmp_path, loss, epochs=2, batch=4, together=2)
    assert found.steps == 2
    assert len(found.losses) == 4


def test_steps_are_drawn_at_random_and_stand_by_length_inside():
    """Every epoch holds every row once, in other steps; a step's rows fall in length."""
    from methods._preference_training import Steps

    lengths = [5, 9, 1, 7, 3, 8, 2, 6, 4, 10]
    steps = Steps(lengths, 4, seed=3)
    first, second = list(steps), list(steps)
    assert sorted(first) == sorted(second) == list(range(10))
    assert len(steps) == 10
    assert {frozenset(first[i : i + 4]) for i in (0, 4)} != {
        frozenset(second[i : i + 4]) for i in (0, 4)
    }
    for start in (0, 4, 8):
        found = [lengths[i] for i in first[start : start + 4]]
        assert found == sorted(found, reverse=True)
    assert list(Steps(lengths, 4, seed=3)) == first
    assert list(Steps(lengths, 4, seed=4)) != first
