"""Low-rank adapters: merged, beside the weights, and as PEFT itself applies them."""

import copy
import warnings

import pytest
import torch

from harness.engine.tiny import tiny_model
from harness.errors import PlumblineError
from methods._adapters import adapters_of, beside, merged

IDS = torch.tensor([[5, 9, 200, 33, 17, 80], [4, 4, 7, 90, 11, 2]])


def _tuned(net, targets="all-linear", rank=3, alpha=12, seed=0):
    """Wrap a copy of a network with PEFT and fill the adapters with noise."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM")
    config.fan_in_fan_out = type(net).__name__.startswith("GPT2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT reads an old name of the library's
        tuned = get_peft_model(copy.deepcopy(net), config)
    rng = torch.Generator().manual_seed(seed)
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            weight.data = 0.2 * torch.randn(weight.shape, generator=rng)
    return tuned.eval(), get_peft_model_state_dict(tuned)


@pytest.fixture(scope="module")
def net():
    """Give the tiny Llama's network."""
    return tiny_model().net


@pytest.fixture(scope="module")
def peft(net):
    """Give the same network under PEFT, and the tensors PEFT would store."""
    return _tuned(net)


def _adapters(tensors, scale=4.0):
    return adapters_of(tensors, scale, torch.device("cpu"))


@torch.no_grad()
@pytest.mark.parametrize("way", [merged, beside])
def test_the_model_is_peft_s(net, peft, way):
    """On the stored tensors, times alpha over r, both ways give PEFT's own logits."""
    tuned, tensors = peft
    with way(net, _adapters(tensors)):
        mine = net(IDS).logits
    torch.testing.assert_close(mine, tuned(IDS).logits, atol=2e-4, rtol=2e-4)
    assert not torch.allclose(mine, net(IDS).logits, atol=1e-1)


@torch.no_grad()
@pytest.mark.parametrize("way", [merged, beside])
def test_the_base_model_is_back_to_the_bit(net, peft, way):
    """After the block, and after an error in it, weights are the same objects; no hook is left."""
    before = net(IDS).logits
    hooks = [len(m._forward_hooks) for m in net.modules()]
    weights = dict(net.named_parameters())
    with pytest.raises(ZeroDivisionError), way(net, _adapters(peft[1])):
        raise ZeroDivisionError
    after = dict(net.named_parameters())
    assert all(after[name] is weight for name, weight in weights.items())
    assert [len(m._forward_hooks) for m in net.modules()] == hooks
    assert torch.equal(net(IDS).logits, before)


@torch.no_grad()
@pytest.mark.parametrize("way", [merged, beside])
def test_transposed_weights_are_known(make_network, way):
    """GPT-2 keeps its weights the other way round; square ones are no exception."""
    gpt2 = make_network("gpt2", 320)
    tuned, tensors = _tuned(gpt2, ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"])
    with way(gpt2, _adapters(tensors)):
        mine = gpt2(IDS).logits
    torch.testing.assert_close(mine, tuned(IDS).logits, atol=2e-4, rtol=2e-4)


def test_every_linear_module_but_the_head_is_adapted(net, peft):
    """All seven matrices of every block, and nothing else."""
    paths = set(_adapters(peft[1]))
    assert len(paths) == 7 * net.config.num_hidden_layers
    assert not any("lm_head" in path or "embed" in path for path in paths)


@torch.no_grad()
def test_half_precision_weights_keep_their_type(net, peft):
    """In bfloat16 the sum is rounded once, and weights and outputs stay in bfloat16."""
    half = copy.deepcopy(net).to(torch.bfloat16)
    adapters = _adapters(peft[1])
    for way in (merged, beside):
        with way(half, adapters):
            assert half(IDS).logits.dtype == torch.bfloat16
    with merged(half, adapters):
        path, change = next(iter(adapters.items()))
        exact = copy.deepcopy(net).get_submodule(path).to(torch.bfloat16)
        assert torch.equal(half.get_submodule(path).weight, change.weight(exact))


def test_another_architecture_is_one_line(make_network, peft):
    """Adapters of one model on another name the module that is missing."""
    with (
        pytest.raises(PlumblineError, match=r"there is no model\.layers.* in GPT2LMHeadModel"),
        merged(make_network("gpt2", 320), _adapters(peft[1])),
    ):
        pass
