"""The named places are where they claim to be, on every architecture."""

import pytest
import torch

from harness.engine.decoding import decode
from harness.engine.density import logprobs
from harness.engine.model import left_padded
from harness.engine.sites import blocks, recorded, resolve, width
from harness.engine.steering import HiddenEdit, Site, Steering, at_last
from harness.errors import PlumblineError

LAYERS = 3
# Written out by hand: blocks, attention, its output projection, feed-forward part, final norm.
PATHS = {
    "gpt2": ("transformer.h", "attn", "c_proj", "mlp", "transformer.ln_f"),
    "gpt_neox": ("gpt_neox.layers", "attention", "dense", "mlp", "gpt_neox.final_layer_norm"),
    "falcon": ("transformer.h", "self_attention", "dense", "mlp", "transformer.ln_f"),
    "phi": ("model.layers", "self_attn", "dense", "mlp", "model.final_layernorm"),
    "others": ("model.layers", "self_attn", "o_proj", "mlp", "model.norm"),
}
SITES = {
    "layer": Site.layer(1),
    "mlp": Site.mlp(0),
    "attention": Site.attention(2),
    "heads": Site.heads(1),
    "final": Site.final(),
}


def module(net, place, index, architecture):
    """Find a module by the table above."""
    stack, attention, output, mlp, final = PATHS.get(
        architecture.partition("-")[0], PATHS["others"]
    )
    if place == "final":
        return net.get_submodule(final)
    block = net.get_submodule(f"{stack}.{index}")
    part = {"layer": "", "mlp": mlp, "attention": attention, "heads": f"{attention}.{output}"}
    return block.get_submodule(part[place])


def read(model, sites, **options):
    """Run one padded forward pass; give the sites' tensors and the library's output."""
    prompts = [[1, 9, 30, 41], [1, 77], [1, 5, 6, 7, 8, 50]]
    ids, mask, positions = left_padded(prompts, model.device)
    kept = {}
    with torch.no_grad(), recorded(model.net, sites, kept.__setitem__):
        out = model.net(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            output_hidden_states=True,
            **options,
        )
    return [kept[i] for i in range(len(sites))], out, mask


def close(a, b, mask):
    """Compare at real positions."""
    torch.testing.assert_close(a[mask], b[mask], rtol=1e-4, atol=1e-5)


def hooks(net):
    """Count the hooks on a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def test_layer_is_the_residual_stream_after_a_block(tiny):
    """``layer i`` is the library's hidden state i + 1; a negative index counts from the end."""
    found, out, mask = read(tiny, [Site.layer(0), Site.layer(1), Site.layer(-2), Site.layer(-1)])
    close(found[0], out.hidden_states[1], mask)
    close(found[1], out.hidden_states[2], mask)
    close(found[2], found[1], mask)
    with torch.no_grad():
        normed = resolve(tiny.net, Site.final()).module(found[3])
    close(normed, out.hidden_states[-1], mask)


def test_final_is_the_head_input(tiny):
    """The output head applied to ``final`` gives the logits."""
    (final,), out, mask = read(tiny, [Site.final()])
    with torch.no_grad():
        logits = tiny.net.get_output_embeddings()(final)
    close(logits, out.logits, mask)
    assert final.shape[-1] == width(tiny.net)


def test_the_parts_of_a_block_add_up(tiny):
    """A block adds its attention and its feed-forward output to the residual stream.

    True of every architecture here, serial or parallel, and false for a part that
    another addition has overwritten.
    """
    sites = [s(i) for i in (1, 2) for s in (Site.attention, Site.mlp, Site.layer)]
    found, _, mask = read(tiny, [Site.layer(0), *sites])
    before = found[0]
    for attention, mlp, after in (found[1:4], found[4:7]):
        close(after, before + attention + mlp, mask)
        before = after


def test_a_part_recorded_by_its_path_is_the_part(tiny, architecture):
    """``module`` finds any module's output, the same as the named place."""
    name = PATHS.get(architecture.partition("-")[0], PATHS["others"])
    path = f"{name[0]}.1.{name[3]}"
    (by_path, by_name), _, mask = read(tiny, [Site.module(path), Site.mlp(1)])
    close(by_path, by_name, mask)


def test_heads_go_through_the_output_projection(tiny, architecture):
    """``heads``, joined and put through the output projection, is ``attention``."""
    (heads, attention), _, mask = read(tiny, [Site.heads(1), Site.attention(1)])
    assert heads.shape[2] == 4
    with torch.no_grad():
        joined = module(tiny.net, "heads", 1, architecture)(heads.flatten(2))
    close(joined, attention, mask)


def test_every_place_is_the_module_written_out_by_hand(tiny, architecture):
    """Each place resolves to the module that a reader of the architecture would name."""
    for place in ("layer", "mlp", "attention", "heads"):
        for index in (0, 2, -1):
            found = resolve(tiny.net, Site(place, index)).module
            assert found is module(tiny.net, place, index % LAYERS, architecture)
    assert resolve(tiny.net, Site.final()).module is module(tiny.net, "final", 0, architecture)
    assert len(blocks(tiny.net)) == LAYERS


# ------------------------------------------------------------------ edits


def plain_hook(place, add, last):
    """Make a hook that adds a vector, as anyone would write it."""

    def shifted(x):
        if not last:
            return x + add
        return torch.cat([x[:, :-1], x[:, -1:] + add], dim=1)

    if place == "heads":
        return lambda m, args: (shifted(args[0]), *args[1:])
    return lambda m, args, out: (
        (shifted(out[0]), *out[1:]) if isinstance(out, tuple) else shifted(out)
    )


@pytest.mark.parametrize("place", SITES)
@pytest.mark.parametrize("last", [False, True], ids=["all", "last"])
def test_an_additive_edit_equals_a_plain_hook(tiny, architecture, place, last, make_jobs, answer):
    """Adding a vector at a site is what a hand-written hook under ``generate`` does."""
    site = SITES[place]
    target = module(tiny.net, place, site.index, architecture)
    size = target.weight.shape[0 if hasattr(target, "nf") else 1] if place == "heads" else 32
    add = torch.randn(size, generator=torch.Generator().manual_seed(3))
    jobs = make_jobs(("hello there", "a"), temperature=0, budget=6)

    shape = (4, -1) if place == "heads" else (-1,)
    edit = lambda h, s: h + add.view(shape)  # noqa: E731
    found = answer(
        tiny, jobs, Steering(hidden=(HiddenEdit(site, at_last(edit) if last else edit),))
    )

    hook = plain_hook(place, add, last)
    handle = (
        target.register_forward_pre_hook(hook)
        if place == "heads"
        else target.register_forward_hook(hook)
    )
    try:
        for job, d in zip(jobs, found, strict=True):
            ids = torch.tensor([tiny.encode(job.chat)])
            out = tiny.net.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6
            )
            assert d.tokens == tuple(out[0, ids.shape[1] :].tolist())
    finally:
        handle.remove()
    assert [d.tokens for d in found] != [d.tokens for d in answer(tiny, jobs)]


def logits_of(model, jobs, steering, answer):
    """Decode and keep the logits of every draw."""
    kept = {}

    def look(logits, step):
        for chat, row in zip(step.rows.asked(), logits, strict=True):
            kept[chat, step.index] = row.clone()
        return logits

    found = answer(model, jobs, steering + Steering(logits=(look,)))
    return {
        (job.id, t): kept[job.chat, t]
        for job, d in zip(jobs, found, strict=True)
        for t in range(len(d.tokens))
    }


def test_an_edit_of_zero_is_the_base_model_bit_for_bit(tiny, make_jobs, answer):
    """Adding zero at every site leaves every logit exactly as it was."""
    jobs = make_jobs()
    zero = Steering(
        hidden=tuple(HiddenEdit(s, at_last(lambda h, s: h + 0.0)) for s in SITES.values())
    )
    base, same = logits_of(tiny, jobs, Steering(), answer), logits_of(tiny, jobs, zero, answer)
    assert base.keys() == same.keys()
    assert all(torch.equal(base[key], same[key]) for key in base)


def test_edits_at_one_site_apply_left_to_right(llama, make_jobs, answer):
    """Two edits of one site compose in the order of the stack."""
    site = Site.layer(1)
    double = Steering(hidden=(HiddenEdit(site, lambda h, s: 2 * h),))
    shift = Steering(hidden=(HiddenEdit(site, lambda h, s: h + 1),))
    both = Steering(hidden=(HiddenEdit(site, lambda h, s: 2 * h + 1),))
    jobs = make_jobs()
    found = answer(llama, jobs, double + shift)
    assert [d.tokens for d in found] == [d.tokens for d in answer(llama, jobs, both)]
    other = answer(llama, jobs, shift + double)
    assert [d.tokens for d in found] != [d.tokens for d in other]


def test_nothing_is_left_on_the_model(tiny, make_jobs, answer):
    """After success and after an exception the model bears no hook of ours."""
    before = hooks(tiny.net)
    jobs = make_jobs(budget=4)
    everywhere = tuple(HiddenEdit(s, lambda h, s: h + 1) for s in SITES.values())
    steering = Steering(hidden=everywhere, logits=(lambda z, s: z,))
    answer(tiny, jobs, steering)
    logprobs(tiny, jobs, [[5, 6]] * len(jobs), steering)
    assert hooks(tiny.net) == before

    def fail(hidden, step):
        raise ZeroDivisionError

    broken = Steering(hidden=(*everywhere, HiddenEdit(Site.layer(2), fail)))
    for run in (answer, lambda *a: logprobs(a[0], a[1], [[5, 6]] * len(jobs), a[2])):
        with pytest.raises(ZeroDivisionError):
            run(tiny, jobs, broken)
        assert hooks(tiny.net) == before
    missing = Steering(hidden=(*everywhere, HiddenEdit(Site.layer(99), fail)))
    with pytest.raises(PlumblineError):
        answer(tiny, jobs, missing)
    assert hooks(tiny.net) == before


def test_an_abandoned_decode_leaves_nothing_on_the_model(llama, make_jobs):
    """Between batches, and when the caller walks away, no hook is on the model."""
    before = hooks(llama.net)
    steering = Steering(hidden=(HiddenEdit(Site.layer(0), lambda h, s: h + 1),))
    batches = decode(llama, make_jobs(), steering, batch_rows=2)
    next(batches)
    assert hooks(llama.net) == before


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (Site.layer(3), r"layer 3: LlamaForCausalLM has 3 blocks.*\[-3, 2\]"),
        (Site.mlp(-4), r"mlp -4: LlamaForCausalLM has 3 blocks"),
        (Site.module("model.nowhere"), r"LlamaForCausalLM has no module at 'model.nowhere'"),
        (Site.module(""), r"no module at ''"),
        (Site.module("config"), r"no module at 'config'"),
    ],
)
def test_a_place_that_does_not_exist_is_named(llama, site, message):
    """An index out of range or a wrong path gives one clear line."""
    with pytest.raises(PlumblineError, match=message):
        resolve(llama.net, site)


@pytest.mark.parametrize("place", ["layer", "mlp", "attention", "heads", "final"])
def test_an_unknown_architecture_says_how_to_name_the_place(place):
    """A model of an unknown family is refused with a way out."""

    class Strange(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Linear(2, 2)

    with pytest.raises(PlumblineError, match=r"Strange: no .* found .*Site\.module\('path"):
        resolve(Strange(), Site(place, 0))
    assert resolve(Strange(), Site.module("body")).heads is None


@pytest.mark.parametrize("place", SITES)
def test_an_edit_must_keep_the_shape(llama, place, make_jobs, answer):
    """An edit that returns another shape is refused, by the name of its site."""
    edit = HiddenEdit(SITES[place], lambda h, s: h[..., :-1])
    with pytest.raises(PlumblineError, match=rf"edit at {SITES[place]} returned shape"):
        answer(llama, make_jobs(), Steering(hidden=(edit,)))


def test_sites_read_as_their_names():
    """A site prints as place and index, for messages and records."""
    assert [str(s) for s in SITES.values()] == [
        "layer 1",
        "mlp 0",
        "attention 2",
        "heads 1",
        "final",
    ]
    assert str(Site.module("a.b")) == "module a.b"
