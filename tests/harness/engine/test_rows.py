"""Rows and their cache move together, whatever the order of forks and prunings."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from harness.engine.cache import CHUNK, GrowingCache, new_cache, uniform
from harness.engine.model import left_padded
from harness.engine.rows import Rows, arange_like

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # examples are small; shrinking takes minutes


@dataclass
class Names:
    """A carried extra: one name per row."""

    names: list[str]

    def select(self, index):
        """Follow the rows."""
        return Names([self.names[i] for i in index.tolist()])


PROMPTS = [[1, 20, 30, 40, 50], [1, 60], [1, 70, 80, 90]]


def started(model):
    """Read three prompts of different lengths; give rows with their cache."""
    ids, mask, positions = left_padded(PROMPTS, model.device)
    zeros = torch.zeros(3, dtype=torch.long)
    cache = model.new_cache()
    with torch.no_grad():
        logits = model.forward(ids, mask=mask.long(), positions=positions, tokens=11, cache=cache)
    return Rows(
        chats=["x", "y", "z"],
        origin=arange_like(zeros),
        slot=zeros,
        ids=torch.zeros((3, 8), dtype=torch.long),
        stop=zeros.clone(),
        length=zeros.clone(),
        prompt_ids=ids,
        prompt_mask=mask,
        decode_text=lambda ids: " ".join(map(str, ids)),
        noise=lambda *a: a,
        cache=cache,
        logits=logits[:, -1],
        given={"mine": torch.tensor([10.0, 20.0, 30.0])},
        carry={"names": Names(["a", "b", "c"])},
    )


def push(model, rows, tokens):
    """Draw the given tokens and push them through the model."""
    rows.ids[:, rows.drawn] = tokens
    rows.drawn += 1
    lengths = rows.prompt_mask.sum(-1)[rows.origin]
    shown = torch.cat(
        [rows.prompt_mask[rows.origin], torch.ones((len(rows), rows.drawn), dtype=torch.bool)], 1
    )
    with torch.no_grad():
        rows.logits = model.forward(
            tokens[:, None],
            mask=shown.long(),
            positions=(lengths + rows.drawn - 1)[:, None],
            tokens=len(rows),
            cache=rows.cache,
        )[:, -1]


def from_scratch(model, rows):
    """Compute the rows' next logits without any cache."""
    out = []
    for prompt, ids in zip(rows.origin.tolist(), rows.tokens(), strict=True):
        with torch.no_grad():
            out.append(model.net(torch.tensor([PROMPTS[prompt] + ids])).logits[0, -1])
    return torch.stack(out)


def moved(model, moves):
    """Carry out moves, each a selection and tokens to push; check after each."""
    rows = started(model)
    names = ["a", "b", "c"]
    for choice in moves:
        index = torch.tensor([c % len(rows) for c in choice])
        names = [names[i] for i in index.tolist()]
        rows = rows.select(index, slot=torch.arange(len(index)))
        assert rows.carry["names"].names == names
        assert [{"x": "a", "y": "b", "z": "c"}[c] for c in rows.asked()] == names
        assert rows.of_prompt("mine").tolist() == [10.0 * "xabc".index(n) for n in names]
        torch.testing.assert_close(rows.logits, from_scratch(model, rows), rtol=1e-3, atol=1e-4)
        push(model, rows, torch.tensor([5 + 7 * i for i in range(len(index))]))
        torch.testing.assert_close(rows.logits, from_scratch(model, rows), rtol=1e-3, atol=1e-4)
    return rows


@given(
    st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=5), min_size=1, max_size=4),
    st.sampled_from(["llama", "mistral-window", "falcon-alibi"]),
)
@settings(max_examples=12, deadline=None, phases=QUICK)
def test_any_forks_and_prunings_keep_rows_and_cache_together(make_model, moves, name):
    """After any selections the next logits are those of the chosen rows from scratch."""
    moved(make_model(name), moves)


def test_forks_and_prunings_on_every_architecture(tiny):
    """A fork, a reordering and a pruning leave the rows' logits as from scratch."""
    moved(tiny, [[0, 0, 1, 2, 2], [4, 1, 0], [1, 1], [0]])


def test_no_rows_is_a_selection(llama):
    """Everything may leave."""
    rows = started(llama).select(torch.zeros(0, dtype=torch.long))
    assert len(rows) == 0
    assert rows.tokens() == []


def test_select_keeps_or_renames_slots(llama):
    """Slots follow the rows unless new ones are given."""
    rows = started(llama).select(torch.tensor([2, 0, 0]), slot=torch.tensor([7, 8, 9]))
    assert rows.slot.tolist() == [7, 8, 9]
    assert rows.select(torch.tensor([2, 1])).slot.tolist() == [9, 8]


def test_rows_join_into_one_wave(llama):
    """Joined rows keep their ages: a finished row keeps its length, a running one all drawn."""
    rows = started(llama)
    push(llama, rows, torch.tensor([5, 6, 7]))
    rows.stop, rows.length = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 0])
    resting = rows.bare().select(torch.tensor([1]))
    going = rows.select(torch.tensor([0, 2]))
    push(llama, going, torch.tensor([8, 9]))
    both = Rows.joined([going.bare(), resting])
    assert both.origin.tolist() == [0, 2, 1]
    assert both.tokens() == [[5, 8], [7, 9], [6]]
    assert both.texts() == ["5 8", "7 9", "6"]
    assert both.lengths() == [2, 2, 1]
    assert both.finished.tolist() == [False, False, True]
    assert both.cache is None


@pytest.mark.parametrize("start", [1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_the_cache_grows_in_chunks(start):
    """Keys and values come back whole across every chunk's edge, and forks keep them."""
    generator = torch.Generator().manual_seed(0)
    cache = GrowingCache(2)
    kept = [torch.zeros(2, 3, 0, 4), torch.zeros(2, 3, 0, 4)]
    for number, size in enumerate([start, *[1] * (CHUNK + 3), CHUNK * 2 + 1]):
        new = torch.randn(2, 3, size, 4, generator=generator)
        for layer in range(2):
            keys, values = cache.update(new + layer, -new, layer)
        kept = [torch.cat([kept[0], new + 1], 2), torch.cat([kept[1], -new], 2)]
        assert torch.equal(keys, kept[0])
        assert torch.equal(values, kept[1])
        assert cache.get_seq_length() == kept[0].shape[2]
        if number % 50 == 0:
            swap = torch.tensor([1, 0])
            cache.batch_select_indices(swap)
            kept = [k[swap] for k in kept]


def test_only_uniform_models_get_the_growing_cache(architecture, make_network):
    """Sliding windows and alibi need the library's own cache; the rest do not."""
    config = make_network(architecture, 320).config
    special = architecture in ("mistral-window", "falcon-alibi")
    assert uniform(config) is not special
    assert isinstance(new_cache(config), GrowingCache) is not special


def test_a_model_with_one_sliding_layer_is_not_uniform():
    """Where a config lists its layers, one that slides is enough."""
    from transformers import Qwen2Config

    for kinds, expected in (
        (["full_attention", "full_attention"], True),
        (["full_attention", "sliding_attention"], False),
    ):
        config = Qwen2Config(
            num_hidden_layers=2, use_sliding_window=True, sliding_window=4, layer_types=kinds
        )
        assert uniform(config) is expected
