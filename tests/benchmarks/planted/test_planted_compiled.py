import pytest
import torch

from benchmarks.planted.compiled import LAYER, Compiled, Push
from benchmarks.planted.enumerated import Enumerated
from benchmarks.planted.models import LAYERS, WIDTH
from benchmarks.planted.tree import divergence, expected
from harness.engine.model import Model
from harness.engine.steering import HiddenEdit, Site, Steering, after_prompt, at_last

EXACT = 1e-6
SITES = [Site.layer(0), Site.layer(LAYER - 1), Site.layer(LAYER), Site.layer(-1), Site.final()]
WHERE = {"all": lambda edit: edit, "draws": at_last, "response": after_prompt}


@pytest.fixture(scope="module")
def compiled(world):
    """Give the formula."""
    return world.compiled


@pytest.fixture(scope="module")
def network(folder, prompts, gold):
    """Give the network with every answer of up to three tokens to one prompt."""
    model = Model.load(str(folder / "compiled"), device="cpu")
    return Enumerated(model, prompts[:1], gold, budget=3)


def steered(push):
    """Say the same edit to the harness."""
    edit = WHERE[push.where](lambda hidden, step: hidden + push.vector.to(hidden))
    return Steering(hidden=(HiddenEdit(push.site, edit),))


def direction(compiled, name):
    """Give a unit vector by name."""
    if name == "random":
        return torch.randn(WIDTH, generator=torch.Generator().manual_seed(9)).double() / 4
    return getattr(compiled, name)


def compare(network, compiled, pushes):
    """Hold the network under the edits against the formula; give both trees."""
    prompt, rewards = network.prompts[0], network.rewards[0]
    steering = sum((steered(p) for p in pushes), Steering())
    found = network.tree(prompt, steering)
    foretold = compiled.tree(prompt.chat, pushes, network.budget)
    law = found.log_law()
    assert (law.exp() - foretold.log_law().exp()).abs().max().item() < EXACT
    effect = compiled.effect(prompt.chat, pushes, rewards, network.budget)
    assert expected(law, rewards) == pytest.approx(effect.reward, abs=EXACT)
    assert divergence(law, network.base[0].log_law()) == pytest.approx(effect.kl, abs=EXACT)
    for mine, theirs in zip(found.values(rewards), foretold.values(rewards), strict=True):
        assert (mine - theirs).abs().max().item() < EXACT
    return found, foretold


def test_the_network_is_the_formula_without_edits(network, compiled):
    """Unedited, the network's law and value function are the formula's to 1e-6."""
    compare(network, compiled, ())


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", ["trait", "source", "bulk", "free", "random"])
@pytest.mark.parametrize("site", SITES, ids=str)
def test_an_edit_does_what_the_formula_foretells(network, compiled, site, name, where):
    """Law, reward, KL and value function of an edit are foretold to 1e-6."""
    compare(network, compiled, [Push(site, 1.5 * direction(compiled, name), where)])


@pytest.mark.parametrize("strength", [-2.0, -0.5, 0.25, 2.0])
def test_every_strength_is_foretold(network, compiled, strength):
    """The formula holds for weak, strong and reversed edits along the trait."""
    compare(network, compiled, [Push(Site.layer(LAYER), strength * compiled.trait)])


def test_edits_add_up(network, compiled):
    """Two edits at different places are foretold together."""
    pushes = [
        Push(Site.layer(0), compiled.source, "draws"),
        Push(Site.layer(3), -0.5 * compiled.trait, "response"),
        Push(Site.final(), 0.5 * compiled.trait),
    ]
    compare(network, compiled, pushes)


@pytest.mark.parametrize("seed", [1, 2])
def test_other_seeds_are_foretold_too(seed, tmp_path, prompts, gold):
    """The formula is the network on other seeds' directions and tables."""
    compiled = Compiled(seed)
    compiled.save(tmp_path)
    model = Model.load(str(tmp_path), device="cpu")
    compare(Enumerated(model, prompts[1:], gold), compiled, [Push(Site.layer(1), compiled.source)])


def test_the_source_matters_before_the_trait_is_written_and_not_after(compiled, prompts):
    """Pushing the source moves kindness before the trait's layer, and nearly nothing after it."""
    chat, push = prompts[0].chat, 1.5 * compiled.source
    base = compiled.tree(chat)
    kinds = torch.tensor([sum(compiled.kindness[t] for t in a) for a in base.leaves()])
    before = compiled.effect(chat, [Push(Site.layer(LAYER - 1), push)], kinds)
    after = compiled.effect(chat, [Push(Site.layer(LAYER), push)], kinds)
    plain = expected(base.log_law(), kinds)
    assert before.reward - plain > 1.0
    assert abs(after.reward - plain) < 0.5
    assert after.kl < before.kl / 10


def test_the_trait_works_at_any_layer_and_other_directions_do_not(compiled, prompts):
    """Along the trait kindness rises at every site; along a free direction it hardly moves."""
    chat = prompts[0].chat
    base = compiled.tree(chat)
    kinds = torch.tensor([sum(compiled.kindness[t] for t in a) for a in base.leaves()])
    plain = expected(base.log_law(), kinds)
    for site in SITES:
        up = compiled.effect(chat, [Push(site, compiled.trait)], kinds).reward - plain
        down = compiled.effect(chat, [Push(site, -compiled.trait)], kinds).reward - plain
        aside = compiled.effect(chat, [Push(site, compiled.free)], kinds).reward - plain
        assert up > 0.2
        assert down < -0.2
        assert abs(aside) < up / 2


def test_an_edit_after_the_norm_that_nothing_reads_changes_nothing(compiled, prompts):
    """At the final norm a direction the head does not read has no effect at all."""
    base = compiled.tree(prompts[0].chat)
    for vector in (compiled.free, compiled.source):
        push = Push(Site.final(), 5 * vector)
        edited = compiled.tree(prompts[0].chat, [push])
        assert torch.allclose(edited.log_law(), base.log_law(), atol=1e-5, rtol=0)


def test_the_trait_lasts(compiled, prompts):
    """A kind exchange earlier in the conversation makes kind words likelier now."""
    kind = int(compiled.kindness.argmax())
    rude = int(compiled.kindness[3:6].argmin()) + 3
    marker, end = 2, 7
    chance = []
    for word in (kind, rude):
        ids = torch.tensor([[1, word, marker, word, word, end, 1, 5, marker]])
        chance.append(compiled.predict(ids, prompt=ids.shape[1])[0, -1, kind].exp().item())
    assert chance[0] > 1.5 * chance[1]


def test_places_the_formula_does_not_cover_are_refused(compiled):
    """An edit inside a block is not predicted, and says so."""
    with pytest.raises(ValueError, match="mlp 1 is not predicted"):
        Push(Site.mlp(1), compiled.trait)


def test_the_directions_are_orthonormal(compiled):
    """Tokens, bulk, source, trait and free directions are orthonormal."""
    gram = compiled.basis @ compiled.basis.T
    assert torch.equal(gram, torch.eye(WIDTH, dtype=torch.float64))
    assert LAYER < LAYERS - 1
