"""AlignEZ's directions, probes and layer rules: properties 4, 5, 6, 7 and 9, and the gap."""

import pytest
import torch

from harness.errors import PlumblineError
from methods._alignez_ccs import DEGENERATE, Probe, ccs_loss, harmful_direction, train_probe
from methods._alignez_directions import (
    alike,
    canonical,
    difference_basis,
    mean_share,
    missing,
    top_direction,
)
from methods._alignez_layers import alignment, ccs_gap, named_layers, top_layers
from methods._alignez_v2 import Choice


def luck(seed=0):
    """Give a generator of its own."""
    return torch.Generator().manual_seed(seed)


def cosine(a, b):
    """Cosine of two vectors."""
    return float(torch.cosine_similarity(a.double(), b.double(), dim=0))


# ---------------------------------------------------------------------- SVD


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_4_a_planted_direction_is_found(scale, seed):
    """4: rank-one differences in noise of length 1 are found with their sign."""
    rng = luck(seed)
    plant = torch.nn.functional.normalize(torch.randn(256, generator=rng), dim=0)
    size = scale * (0.5 + torch.rand(64, 1, generator=rng))
    rows = size * plant + torch.randn(64, 256, generator=rng) / 16
    (found,) = difference_basis(rows, 0.9, 1)
    assert cosine(found, plant) > 0.99


def test_top_direction_is_the_first_right_singular_vector():
    """The Gram matrix gives the vector that an SVD gives, for one stack and for many."""
    stacks = torch.randn(3, 20, 32, generator=luck()) + 1
    found = top_direction(stacks)
    for stack, mine in zip(stacks, found, strict=True):
        other = torch.linalg.svd(stack.double()).Vh[0].float()
        assert abs(cosine(mine, other)) > 1 - 1e-9
        torch.testing.assert_close(top_direction(stack).abs(), mine.abs())
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    assert not top_direction(torch.zeros(4, 5)).any()


def test_stacks_with_one_mean_share_their_first_direction():
    """Uncentred, both stacks give the mean; the differences give the contrast."""
    rng = luck(5)
    contrast = torch.nn.functional.normalize(torch.randn(256, generator=rng), dim=0)
    mean = 3 * torch.nn.functional.normalize(torch.randn(256, generator=rng), dim=0)
    noise = torch.randn(2, 500, 256, generator=rng) / 16
    good, bad = mean + contrast / 2 + noise[0], mean - contrast / 2 + noise[1]
    both = abs(cosine(top_direction(good), top_direction(bad)))
    assert 0.92 < both < 0.98
    assert cosine(difference_basis(good - bad, 0.9, 1)[0], contrast) > 0.99
    assert mean_share(good) > 0.85
    assert mean_share(good - good.mean(0)) < 1e-9


def test_9_directions_hold_the_asked_energy_and_no_more():
    """9: k is the smallest with the energy, and the rows are orthonormal."""
    values = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5])
    left = torch.linalg.qr(torch.randn(9, 5, generator=luck()))[0]
    right = torch.linalg.qr(torch.randn(16, 5, generator=luck(1)))[0]
    rows = left @ torch.diag(values) @ right.T
    share = (values**2).cumsum(0) / (values**2).sum()
    for energy in (0.3, 0.5, 0.8, 0.9, 0.99, 1.0):
        basis = difference_basis(rows, energy)
        k = len(basis)
        assert share[k - 1] >= energy - 1e-6
        assert k == 1 or share[k - 2] < energy
        torch.testing.assert_close(basis @ basis.T, torch.eye(k), atol=1e-5, rtol=0)
    assert len(difference_basis(rows, 0.9, 2)) == 2
    assert len(difference_basis(rows, 0.9, 99)) == 5  # never directions of rounding


def test_9_a_query_keeps_what_it_does_not_express():
    """9: every kept direction has a cosine of at most 0 with the query."""
    cosines = torch.tensor([-0.5, 0.0, 0.5])
    assert missing(cosines, "missing").tolist() == [True, True, False]
    assert missing(cosines, "expressed").tolist() == [False, False, True]
    assert missing(cosines, "all").all()
    rng = luck(2)
    basis = torch.linalg.qr(torch.randn(4, 16, 6, generator=rng))[0].mT.contiguous()
    query = torch.randn(4, 10, 16, generator=rng)
    used = Choice(top=2)(basis, query)
    for layer in range(4):
        along = torch.nn.functional.normalize(query[layer], dim=-1) @ basis[layer].T
        assert (along[used[:, layer]] <= 0).all()
    assert (used.any(-1).sum(-1) == 2).all()


def test_9_signs_are_fixed_once():
    """9: with the sign fix the choice does not depend on the signs SVD came out with."""
    rng = luck(4)
    rows = torch.randn(40, 16, generator=rng) + 0.3
    query = torch.randn(1, 50, 16, generator=rng)
    loose = difference_basis(rows, 0.9, fix_signs=False)
    signs = torch.tensor([(-1.0) ** j for j in range(len(loose))])[:, None]
    choice = Choice(fixed=[0])
    fixed = [canonical(v, rows).float() for v in (loose, loose * signs)]
    torch.testing.assert_close(fixed[0], fixed[1])
    assert (fixed[0] @ rows.mean(0) > 0).all()
    assert torch.equal(*(choice(v[None], query) for v in fixed))
    assert not torch.equal(*(choice(v[None], query) for v in (loose, loose * signs)))
    torch.testing.assert_close(difference_basis(rows, 0.9), fixed[0])


def test_9_a_tie_makes_the_largest_coordinate_positive():
    """9: where the mean difference says nothing the direction's own largest coordinate does."""
    basis = torch.tensor([[0.6, -0.8, 0.0]])
    rows = torch.tensor([[0.6, -0.8, 0.0], [-0.6, 0.8, 0.0]])
    torch.testing.assert_close(canonical(basis, rows).float(), -basis)


def test_9_pairs_are_dropped_above_the_limit():
    """9: a cosine of 0.80 stays, 0.8001 goes, and equal states go whatever the limit."""

    def at(value):
        return torch.tensor([value, (1 - value**2) ** 0.5, 0.0])

    good = torch.tensor([[1.0, 0.0, 0.0]]).repeat(3, 1)
    bad = torch.stack([at(0.8), at(0.8001), at(0.2)])
    assert alike(good, bad, 0.8).tolist() == [False, True, False]
    assert alike(torch.zeros(1, 3), torch.zeros(1, 3), 1.0).tolist() == [True]
    assert alike(good, good, 1.0).all()


# ---------------------------------------------------------------------- CCS


@pytest.mark.parametrize(
    ("p0", "p1", "loss"),
    [(0, 1, 0), (1, 0, 0), (0.5, 0.5, 0.25), (0.4, 0.4, 0.2), (0, 0, 1), (1, 1, 2)],
)
def test_5_the_loss_at_known_points(p0, p1, loss):
    """5: the loss has its known values, and does not care which answer is which."""
    one, other = (torch.tensor([float(p)], dtype=torch.float64) for p in (p0, p1))
    assert float(ccs_loss(one, other)) == pytest.approx(loss, abs=1e-12)
    assert float(ccs_loss(other, one)) == pytest.approx(loss, abs=1e-12)


def test_5_the_best_constant_probe_is_recognised():
    """5: constant probes reach 0.20 at 0.4 and no less, and such a loss is flagged."""
    p = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    losses = ccs_loss(p, p)
    assert float(losses.min()) == pytest.approx(0.2, abs=1e-9)
    assert float(p[losses.argmin()]) == pytest.approx(0.4)
    states = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    weight = torch.tensor([3.0, 0.0], dtype=torch.float64)
    assert Probe(weight, 0.0, 0.199).verdict(*states) == "unusable"
    assert Probe(weight, 0.0, 0.05).verdict(*states) == "helpful"
    assert DEGENERATE < 0.2


def planted(seed=0):
    """Give pairs that differ by a class mean: base row, plus or minus 2 along a plant, noise."""
    rng = luck(seed)
    plant = torch.nn.functional.normalize(torch.randn(64, generator=rng), dim=0)
    base = torch.randn(300, 64, generator=rng)
    noise = 0.3 * torch.randn(2, 300, 64, generator=rng)
    return base + 2 * plant + noise[0], base - 2 * plant + noise[1], plant


@pytest.fixture(scope="module")
def probe():
    """Give the probe of the raw features."""
    good, bad, _ = planted()
    return train_probe(good, bad, luck())


def test_6_raw_features_recover_the_plant(probe):
    """6: on raw features the loss is small and the plant is found."""
    plant = planted()[2]
    assert abs(cosine(probe.weight, plant)) > 0.8
    assert probe.loss < 0.1


def test_6_joint_centring_recovers_it_and_centring_by_class_deletes_it():
    """6: one common centre keeps the class means apart, a centre for each class does not."""
    good, bad, plant = planted()
    joint = train_probe(good + 5, bad + 5, luck(), centring="joint", restarts=3)
    assert abs(cosine(joint.weight, plant)) > 0.8
    assert joint.loss < 0.1
    deleted = train_probe(good - good.mean(0), bad - bad.mean(0), luck(), restarts=3)
    assert deleted.loss > 0.18
    assert deleted.verdict(good, bad) == "unusable"


def test_6_a_probe_reads_features_as_they_are():
    """6: scale and centre are undone: the probe's own loss on raw states is the one reported."""
    good, bad, _ = planted()
    for centring in ("raw", "joint"):
        found = train_probe(7 * good, 7 * bad, luck(), centring=centring, restarts=2, steps=20)
        again = ccs_loss(found(7 * bad), found(7 * good))
        assert float(again) == pytest.approx(found.loss, abs=1e-5)


def test_6_losses_do_not_depend_on_the_scale_of_a_layer():
    """6: states ten times as large give the same loss, so losses of layers compare."""
    good, bad, _ = planted()
    one, ten = (train_probe(s * good, s * bad, luck(), restarts=2, steps=20).loss for s in (1, 10))
    assert one == pytest.approx(ten, abs=1e-5)


def test_restarts_trained_together_are_restarts_trained_alone():
    """The batch of restarts keeps the best of those that would be trained one by one."""
    good, bad, _ = planted(1)
    together = train_probe(good, bad, luck(7), restarts=4, steps=20)
    first = train_probe(good, bad, luck(7), restarts=1, steps=20)
    assert together.loss <= first.loss + 1e-6
    again = train_probe(good, bad, luck(7), restarts=4, steps=20)
    assert torch.equal(again.weight, together.weight)


def test_7_the_harmful_direction_points_at_the_harmful_side(probe):
    """7: whatever sign the probe came out with, its direction points from good to bad."""
    good, bad, _ = planted()
    toward = bad.mean(0) - good.mean(0)
    for one in (probe, probe.flipped, train_probe(good, bad, luck(11), restarts=1, steps=300)):
        direction, verdict = harmful_direction(one, good, bad)
        assert verdict in ("harmful", "helpful")
        assert float(direction @ toward) > 0
    swapped, _ = harmful_direction(probe, bad, good)
    assert float(swapped @ toward) < 0


def test_7_as_released_a_helpful_sign_gives_no_direction(probe):
    """7: the released code takes the probe only where its sign happened to be harmful."""
    good, bad, _ = planted()
    found = {
        verdict: bool(direction.any())
        for direction, verdict in (
            harmful_direction(p, good, bad, "as_released") for p in (probe, probe.flipped)
        )
    }
    assert found == {"harmful": True, "helpful": False}


def test_7_a_probe_with_both_means_on_one_side_is_unusable():
    """7: a probe that calls both classes the same gives no direction."""
    good, bad, _ = planted()
    lopsided = Probe(torch.zeros(64, dtype=torch.float64), 2.0, 0.01)
    direction, verdict = harmful_direction(lopsided, good, bad)
    assert verdict == "unusable"
    assert not direction.any()


# ------------------------------------------------------------------- layers


def test_the_layers_before_an_obvious_gap_are_edited():
    """Losses with one gap give all the layers left of it; as released, one fewer."""
    losses = [0.20, 0.02, 0.21, 0.01, 0.03, 0.22]
    assert ccs_gap(losses) == [3, 1, 4]
    assert ccs_gap(losses, "as_released") == [3, 1]


def test_the_gap_leaves_one_layer_at_least_and_never_all():
    """A gap at the very start gives one layer, one at the very end all but one."""
    assert ccs_gap([0.0, 0.2, 0.2, 0.2]) == [0]
    assert ccs_gap([0.0, 0.2, 0.2, 0.2], "as_released") == [0]
    assert ccs_gap([0.01, 0.01, 0.01, 0.25]) == [0, 1, 2]
    assert ccs_gap([0.1]) == [0]
    assert len(ccs_gap([0.1, 0.1, 0.1])) < 3


def test_a_query_edits_the_layers_that_hold_most_of_it():
    """The score is the length of the query's part in the kept directions; the top n are taken."""
    cosines = torch.tensor([[[-0.3, -0.4], [0.9, -0.1], [-0.6, 0.0], [0.5, 0.5]]])
    kept = cosines <= 0
    scores = alignment(cosines, kept)
    torch.testing.assert_close(scores, torch.tensor([[0.5, 0.1, 0.6, 0.0]]))
    assert top_layers(scores, 2).tolist() == [[True, False, True, False]]
    assert top_layers(scores, 9).tolist() == [[True, True, True, False]]  # never a score of 0
    assert top_layers(torch.ones(1, 4), 9).sum() == 3  # and never all
    assert top_layers(torch.ones(1, 1), 9).sum() == 1


def test_layers_by_number_are_checked():
    """Negative layers count from the end; one out of range is refused."""
    assert named_layers((-1, 0), 3) == [0, 2]
    with pytest.raises(PlumblineError, match=r"layer 3; the model has 3.*\[-3, 2\]"):
        named_layers((3,), 3)
