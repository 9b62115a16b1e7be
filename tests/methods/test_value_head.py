"""Properties 4, 5, 6 and 10 of a faithful RE-CONTROL: the value network and the ascent on it."""

import pytest
import torch

from harness.errors import PlumblineError
from methods._value_head import Ascent, ValueHead, ascend_in_place

LAYERS = (2, 3)


def drawn(layers, width=64, hidden=96, seed=0):
    """Draw a head."""
    return ValueHead.drawn(width, hidden, layers, torch.Generator().manual_seed(seed))


def states(rows=3, width=64, seed=1):
    """Draw states."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def by_autograd(head, at, alpha, n):
    """Climb by autograd, the slow obvious way: the oracle."""
    u = torch.zeros_like(at)
    for _ in range(n):
        u = u.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(head(at + u).sum(), u)
        u = u.detach() + alpha * slope
    return u


@pytest.mark.parametrize("layers", LAYERS)
def test_the_value_is_the_network_of_the_paper(layers):
    """V is linear layers with ReLU between them and biases everywhere."""
    head, at = drawn(layers), states()
    parts = [torch.nn.Linear(64, 96), torch.nn.ReLU()]
    if layers == 3:
        parts += [torch.nn.Linear(96, 96), torch.nn.ReLU()]
    net = torch.nn.Sequential(*parts, torch.nn.Linear(96, 1))
    weights = [head.first, head.first_bias]
    weights += [head.second, head.second_bias] if layers == 3 else []
    weights += [head.out[None], head.out_bias[None]]
    with torch.no_grad():
        for mine, theirs in zip(net.parameters(), weights, strict=True):
            mine.copy_(theirs)
        assert torch.allclose(net(at)[:, 0], head(at), atol=1e-6)
    counted = sum(p.numel() for p in head.tensors().values())
    assert counted == sum(p.numel() for p in net.parameters())


def test_4_one_step_is_the_closed_form():
    """4. With two layers one step is u = alpha W1^T (1[z>0] w)."""
    head, at = drawn(2), states()
    u = Ascent.on(head, 0.7, 1)(at)
    for row, state in zip(u, at, strict=True):
        z = head.first @ state + head.first_bias
        assert torch.allclose(row, 0.7 * head.first.T @ ((z > 0) * head.out), atol=1e-6)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("n", [1, 2, 30, 200])
def test_4_the_gram_form_is_autograd(layers, n):
    """4. The ascent without autograd is the ascent with it, to 1e-5 relative in float32."""
    head, at = drawn(layers, 128, 128), states(3, 128)
    ours, theirs = Ascent.on(head, 0.5, n)(at), by_autograd(head, at, 0.5, n)
    assert (ours - theirs).norm() / theirs.norm() < 1e-5


@pytest.mark.parametrize("layers", LAYERS)
def test_4_the_gradient_is_autograd_and_0_at_a_kink(layers):
    """4. The closed-form gradient is autograd's, ties at z = 0 included."""
    head, at = drawn(layers), states(5)
    assert torch.allclose(head.gradient(at), by_autograd(head, at, 1.0, 1), atol=1e-6)
    flat = ValueHead(**{**head.tensors(), "first_bias": torch.zeros(96)})
    origin = torch.zeros(1, 64)
    assert torch.equal(flat.gradient(origin), torch.zeros(1, 64))
    assert torch.equal(by_autograd(flat, origin, 1.0, 1), torch.zeros(1, 64))


@pytest.mark.parametrize("layers", LAYERS)
def test_5_a_small_step_raises_v_by_alpha_times_the_slope_squared(layers):
    """5. To first order dV = alpha |dV/do|^2, within one per cent for a small step."""
    head, at = drawn(layers).to(torch.float64), states(20).double()
    u = Ascent.on(head, 1e-3, 1)(at.float()).double()
    slope = head.gradient(at)
    moved = at + 1e-3 * slope
    assert torch.allclose(u, 1e-3 * slope, atol=1e-8)
    gain = head(moved) - head(at)
    assert bool((gain >= 0).all())
    assert torch.allclose(gain, 1e-3 * slope.square().sum(-1), rtol=0.01)


@pytest.mark.parametrize("layers", LAYERS)
def test_5_many_steps_go_up(layers):
    """5. Thirty steps raise V on nearly every state."""
    head, at = drawn(layers), states(200)
    gain = head(at + Ascent.on(head, 0.5, 30)(at)) - head(at)
    assert float((gain > 0).float().mean()) >= 0.95


@pytest.mark.parametrize("layers", LAYERS)
def test_6_rows_do_not_meet(layers):
    """6. Permuting the batch, or climbing alone, changes no row's u."""
    head, at = drawn(layers), states(7)
    climb = Ascent.on(head, 0.5, 30)
    together = climb(at)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    assert torch.allclose(climb(at[order]), together[order], atol=1e-5)
    alone = torch.cat([climb(row[None]) for row in at])
    assert torch.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("layers", LAYERS)
def test_10_scaling_v_and_unscaling_alpha_is_nothing(layers):
    """10. c V and alpha / c climb to the same place."""
    head, at = drawn(layers), states()
    scaled = head.scaled(8.0)
    assert torch.allclose(scaled(at), 8 * head(at), atol=1e-4)
    assert torch.allclose(Ascent.on(scaled, 0.0625, 20)(at), Ascent.on(head, 0.5, 20)(at))


@pytest.mark.parametrize(("alpha", "n"), [(0.0, 30), (0.5, 0)])
def test_no_step_is_no_displacement(alpha, n):
    """No steps, or steps of no length, displace nothing at all."""
    assert torch.equal(Ascent.on(drawn(3), alpha, n)(states()), torch.zeros(3, 64))


def test_the_ascent_leaves_the_states_it_is_given():
    """Neither the states nor the weights are changed, and no gradient is kept."""
    head, at = drawn(3), states()
    before, weights = at.clone(), {k: v.clone() for k, v in head.tensors().items()}
    u = Ascent.on(head, 0.5, 5)(at)
    assert torch.equal(at, before)
    assert all(torch.equal(v, weights[k]) for k, v in head.tensors().items())
    assert not u.requires_grad


def test_stepping_on_the_state_itself_loses_small_steps_in_half_precision():
    """As published, a step of 1e-4 in 16 bits leaves most coordinates where they were."""
    head = ValueHead(
        torch.eye(64), torch.full((64,), 100.0), torch.ones(64), torch.zeros(())
    )  # dV/do = 1 everywhere
    at = states(50)
    assert torch.allclose(ascend_in_place(head, at, 1e-4, 1), at + 1e-4, atol=1e-6)
    half = ascend_in_place(head.to(torch.float16), at, 1e-4, 1)
    unchanged = (half == at.half().float()).float().mean()
    assert 0.7 < float(unchanged) < 0.9
    assert half.dtype == at.dtype


def test_weights_survive_storage_by_name():
    """A head is its tensors."""
    head = drawn(3)
    again = ValueHead.of(head.tensors())
    assert torch.equal(again(states()), head(states()))
    assert set(drawn(2).tensors()) == {"first", "first_bias", "out", "out_bias"}


def test_weights_depend_on_the_generator_alone():
    """Equal seeds draw equal weights, within one over the root of the inputs."""
    assert torch.equal(drawn(3, seed=5).first, drawn(3, seed=5).first)
    assert not torch.equal(drawn(3, seed=5).first, drawn(3, seed=6).first)
    assert float(drawn(3).first.abs().max()) <= 1 / 64**0.5


def test_other_depths_are_refused():
    """Only two and three layers exist."""
    with pytest.raises(PlumblineError, match="2 or 3 layers, not 4"):
        drawn(4)
