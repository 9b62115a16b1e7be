"""AlignEZ's edits as equations: properties 1, 2, 3 and 8 of the acceptance list."""

import itertools

import pytest
import torch

from methods._alignez_edits import boosted, neutralised, projected, squashed

LUCK = torch.Generator().manual_seed(3)
X = torch.randn(6, 3, 32, generator=LUCK)
HARM, HELP = torch.randn(2, 32, generator=LUCK)
BASIS = torch.linalg.qr(torch.randn(32, 5, generator=LUCK))[0].T.contiguous()


def unit(vector, norm=1.0):
    """Scale to a length."""
    return vector / vector.norm() * norm


@pytest.mark.parametrize("norm", [0.1, 1.0, 5.0])
def test_1_nothing_harmful_is_left(norm):
    """1: after removal nothing lies along the direction, whatever its length, and again."""
    harm = unit(HARM, norm)
    once = neutralised(X, harm)
    assert ((once @ harm).abs() <= 1e-5 * X.norm(dim=-1) * norm).all()
    torch.testing.assert_close(neutralised(once, harm), once)
    torch.testing.assert_close(X - once, (X @ unit(harm))[..., None] * unit(harm))


@pytest.mark.parametrize("norm", [0.1, 1.0, 5.0])
def test_1_the_released_projection_leaves_a_rest(norm):
    """1: dividing by the length once leaves 1 - |harm| of the component."""
    harm = unit(HARM, norm)
    rest = neutralised(X, harm, "as_released")
    torch.testing.assert_close(rest @ harm, (1 - norm) * (X @ harm), atol=1e-4, rtol=1e-3)


def test_1_a_zero_direction_takes_nothing():
    """1: where there is no harmful direction the state stays, bit for bit."""
    assert torch.equal(neutralised(X, torch.zeros(32)), X)
    assert torch.equal(neutralised(X, torch.zeros(32), "as_released"), X)


@pytest.mark.parametrize("scale", [1.0, 0.2, 7.0, -1.0])
def test_2_boosting_doubles_one_component(scale):
    """2: the helpful component doubles and the rest stays, whatever the length and sign."""
    found = boosted(X, scale * HELP)
    torch.testing.assert_close(found @ HELP, 2 * (X @ HELP), atol=1e-4, rtol=1e-4)
    aside = X - (X @ unit(HELP))[..., None] * unit(HELP)
    torch.testing.assert_close(neutralised(found, HELP), aside, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found, boosted(X, HELP), atol=1e-5, rtol=1e-5)


def test_2_boosting_follows_removal():
    """2: after both lines the helpful component is twice what removal had left of it."""
    found = X + projected(X, HARM, HELP)
    left = neutralised(X, HARM)
    torch.testing.assert_close(found @ HELP, 2 * (left @ HELP), atol=1e-4, rtol=1e-4)


def test_3_the_golden_vector():
    """3: the published worked example, in its order and not in the other."""
    x, harm, help = (torch.tensor(v) for v in ((0.7, 0.3), (0.9, 0.1), (0.1, 0.9)))
    assert neutralised(x, harm).tolist() == pytest.approx([-0.0244, 0.2195], abs=5e-5)
    assert (x + projected(x, harm, help)).tolist() == pytest.approx([-0.0006, 0.4337], abs=5e-5)
    other = neutralised(boosted(x, help), harm)
    assert other.tolist() == pytest.approx([-0.0648, 0.5836], abs=5e-5)


# ----------------------------------------------------------------------- v2


def loop(x, basis, alpha, squash, order):
    """Edit as the paper writes it: one direction after the other, each at the state so far."""
    for j in order:
        along = (x * basis[j]).sum(-1, keepdim=True)
        x = x + alpha * squash(along) * basis[j]
    return x


@pytest.mark.parametrize("alpha", [1.0, 0.5, 3.0])
def test_8_the_closed_form_is_the_loop_in_any_order(alpha):
    """8: for orthonormal directions the sum equals the loop to 1e-5, in every order."""
    found = X + squashed(X, BASIS, torch.full((5,), alpha))
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 17):
        assert (loop(X, BASIS, alpha, torch.tanh, order) - found).abs().max() < 1e-5


def test_8_signs_do_not_matter_to_the_edit():
    """8: turning given directions around changes nothing as stated."""
    signs = torch.tensor([1.0, -1, -1, 1, -1])[:, None]
    ones = torch.ones(5)
    torch.testing.assert_close(squashed(X, BASIS * signs, ones), squashed(X, BASIS, ones))


def test_8_the_change_is_bounded_and_no_coordinate_turns():
    """8: the change is at most alpha sqrt(k) long, and every kept coordinate grows as it is."""
    change = squashed(100 * X, BASIS, torch.full((5,), 2.0))
    assert (change.norm(dim=-1) <= 2 * 5**0.5 + 1e-5).all()
    before, after = X @ BASIS.T, (X + squashed(X, BASIS, torch.ones(5))) @ BASIS.T
    assert (before.sign() == after.sign()).all()
    assert (after.abs() > before.abs()).all()


def test_8_nothing_is_the_same_bits():
    """8: strength 0, a filter that keeps nothing and an empty basis give the same bits."""
    for basis, coefficients in ((BASIS, torch.zeros(5)), (BASIS[:0], torch.zeros(0))):
        assert torch.equal(X + squashed(X, basis, coefficients), X)


def test_8_a_mask_keeps_one_row_out():
    """8: coefficients of a row's own act on that row alone."""
    mine = torch.zeros(6, 1, 5)
    mine[2, :, 1] = 1.0
    found = X + squashed(X, BASIS, mine)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(found[others], X[others])
    assert not torch.equal(found[2], X[2])
    torch.testing.assert_close((found - X) @ BASIS[0], torch.zeros(6, 3), atol=1e-5, rtol=0)


def test_8_relu_with_minus_one_removes_what_is_positive():
    """8: ReLU with strength -1 turns each coordinate a into min(a, 0)."""
    found = (X + squashed(X, BASIS, torch.full((5,), -1.0), "relu")) @ BASIS.T
    torch.testing.assert_close(found, (X @ BASIS.T).clamp(max=0), atol=1e-5, rtol=1e-5)


def test_8_toward_always_pushes_along_the_direction():
    """8: the ablation moves every coordinate up by tanh of its size."""
    before = X @ BASIS.T
    after = (X + squashed(X, BASIS, torch.ones(5), "tanh", "toward")) @ BASIS.T
    torch.testing.assert_close(after - before, before.abs().tanh(), atol=1e-5, rtol=1e-5)
