"""The draw, the filters and the luck."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from harness.engine.sampling import Sampling, draw, filtered, uniforms
from harness.errors import PlumblineError

BELOW_ONE = float(np.nextafter(1.0, 0.0))


def even(count):
    """Give uniforms spread evenly over [0, 1)."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def kept(logits, **how):
    """Give the tokens that the filters leave."""
    return set(filtered(logits[None], **{"top_k": 0, "top_p": 1.0} | how)[0].isfinite().nonzero()
               .flatten().tolist())  # fmt: skip


def test_frequencies_follow_the_softmax():
    """Pseudo-random luck draws tokens as often as the softmax says (chi-square)."""
    logits = torch.randn(20, generator=torch.Generator().manual_seed(0)) * 2
    luck = torch.from_numpy(uniforms(("frequencies",), 50_000))
    found = torch.bincount(draw(logits.expand(50_000, -1), luck), minlength=20)
    expected = logits.double().softmax(-1) * 50_000
    assert chisquare(found.numpy(), expected.numpy()).pvalue > 1e-3


def test_even_luck_draws_exact_shares():
    """Evenly spread luck gives every token its share to within one draw."""
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    found = torch.bincount(draw(logits.expand(10_000, -1), even(10_000)), minlength=4)
    assert (found - logits.softmax(-1) * 10_000).abs().max() <= 1


def test_a_token_of_tiny_mass_can_be_drawn():
    """A token of mass 1e-9 has its own stretch of luck, first or last in the vocabulary."""
    mass = 1e-9
    for place, luck in ((0, mass / 2), (-1, 1 - mass / 2)):
        logits = torch.zeros(1000, dtype=torch.float64)
        logits[place] = np.log(mass * 999)
        token = draw(logits.float()[None], torch.tensor([luck], dtype=torch.float64))
        assert int(token) == place % 1000
        beside = torch.tensor([1.5 * mass if place == 0 else 1 - 1.5 * mass], dtype=torch.float64)
        assert int(draw(logits.float()[None], beside)) == (place % 1000) + (1 if place == 0 else -1)


@given(
    st.lists(st.sampled_from([float("-inf"), 0.0, 1.0, -30.0, 20.0]), min_size=1, max_size=12),
    st.sampled_from([0.0, BELOW_ONE, 0.5, 1e-300, 1 - 2**-52]),
)
@settings(max_examples=200, deadline=None)
def test_a_token_of_no_mass_is_never_drawn(logits, luck):
    """Whatever the luck, 0 and just below 1 included, a token ruled out is not drawn."""
    row = torch.tensor([logits])
    if not row.isfinite().any():
        return
    token = int(draw(row, torch.tensor([luck], dtype=torch.float64)))
    assert logits[token] > float("-inf")


def test_luck_near_one_is_drawn_inside_a_large_vocabulary():
    """Rounding of a long sum never leads past the last possible token."""
    logits = torch.randn(50_000, generator=torch.Generator().manual_seed(1)) * 3
    logits[-100:] = float("-inf")
    token = draw(logits[None], torch.tensor([BELOW_ONE], dtype=torch.float64))
    assert int(token) == 49_899


def test_rows_are_drawn_each_by_its_own_luck():
    """A batch is drawn as its rows one by one."""
    logits = torch.randn(30, 50, generator=torch.Generator().manual_seed(2))
    luck = torch.from_numpy(uniforms(("rows",), 30))
    alone = [int(draw(logits[i : i + 1], luck[i : i + 1])) for i in range(30)]
    assert draw(logits, luck).tolist() == alone


# ----------------------------------------------------------------- filters


def slow_top_p(logits, top_p):
    """Take tokens from the likeliest on until they have the mass."""
    mass, chosen = 0.0, set()
    p = logits.double().softmax(-1)
    for token in p.argsort(descending=True).tolist():
        if mass >= top_p:
            break
        chosen.add(token)
        mass += float(p[token])
    return chosen


@given(st.integers(0, 10_000), st.floats(0.01, 0.999), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_filters_equal_a_slow_obvious_version(seed, top_p, top_k):
    """Top-k and top-p keep what a loop over sorted tokens keeps."""
    logits = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 3
    ordered = logits.argsort(descending=True).tolist()
    assert kept(logits, top_k=top_k) == set(ordered[:top_k])
    assert kept(logits, top_p=top_p) == slow_top_p(logits, top_p)
    both = logits.clone()
    both[ordered[top_k:]] = float("-inf")
    assert kept(logits, top_k=top_k, top_p=top_p) == slow_top_p(both, top_p)


def test_filters_keep_the_logits_they_keep():
    """What is kept is unchanged, and one token at least is kept."""
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(3))
    out = filtered(logits, 5, 0.8)
    inside = out.isfinite()
    assert torch.equal(out[inside], logits[inside])
    assert bool(inside.any(-1).all())
    assert bool((filtered(logits, 0, 1e-6).isfinite().sum(-1) == 1).all())
    assert torch.equal(filtered(logits, 0, 1.0), logits)
    assert torch.equal(filtered(logits, 999, 1.0), logits)


def test_filters_act_after_the_temperature(llama, make_jobs, answer):
    """Top-k 1 is greedy at any temperature; a low temperature is nearly greedy."""
    jobs = make_jobs(temperature=0)
    greedy = [d.tokens for d in answer(llama, jobs)]
    assert [d.tokens for d in answer(llama, make_jobs(temperature=2.0, top_k=1))] == greedy
    assert [d.tokens for d in answer(llama, make_jobs(temperature=0.001))] == greedy
    assert [d.tokens for d in answer(llama, make_jobs(temperature=1.0))] != greedy


def test_a_temperature_divides_the_logits(llama, make_jobs, answer):
    """Temperature T draws what T = 1 draws from the divided logits."""
    from harness.engine.steering import Steering

    hot = answer(llama, make_jobs(temperature=2.0))
    half = answer(llama, make_jobs(), Steering(logits=(lambda z, s: z / 2,)))
    assert [d.tokens for d in hot] == [d.tokens for d in half]


# -------------------------------------------------------------------- luck


def test_a_stream_is_stable_in_its_prefix():
    """Asking for more keeps what was there."""
    long = uniforms((0, "p", 1, 2), 500)
    assert np.array_equal(uniforms((0, "p", 1, 2), 7), long[:7])
    assert long.dtype == np.float64
    assert 0 <= long.min() < long.max() < 1


def test_streams_of_different_names_differ():
    """Every part of the name matters, and parts do not run together."""
    keys = [(0, "p", 1, 2), (1, "p", 1, 2), (0, "q", 1, 2), (0, "p", 2, 2), (0, "p", 1, 3),
            (0, "p1", "", 2), (0, "p", 12), (0, "p", 1, 2, "noise")]  # fmt: skip
    heads = {tuple(uniforms(key, 3)) for key in keys}
    assert len(heads) == len(keys)


def test_the_first_numbers_of_a_stream_are_pinned():
    """A change of the generator would change every stored sample, so it shows here."""
    again = uniforms((0, "pinned"), 2)
    import hashlib

    digest = hashlib.blake2b(b"0\x1fpinned", digest_size=16).digest()
    bits = np.random.Philox(key=int.from_bytes(digest, "big"))
    assert np.array_equal(again, np.random.Generator(bits).random(2))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it must be 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, r"top_p is 0.0; it must lie in \(0, 1\]"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be 1 or more"),
    ],
)
def test_sampling_out_of_range_is_refused(asked, message):
    """Each setting says its range."""
    with pytest.raises(PlumblineError, match=message):
        Sampling(**asked)


def test_plain_sampling_is_the_models_own_distribution():
    """Plain means temperature 1 and no filter."""
    assert Sampling().plain
    for other in ({"temperature": 0.9}, {"top_k": 5}, {"top_p": 0.9}):
        assert not Sampling(**other).plain
