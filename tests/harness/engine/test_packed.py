"""K1, K2, K4: several continuations in one row, one cache, and nothing read twice."""

import pytest
import torch

from harness.engine.model import left_padded
from harness.engine.packed import Packed, branch_mask, packs

PROMPTS = ([5, 9, 3, 7, 12, 40, 8, 6, 11], [14, 3, 9, 21, 6], [30, 31, 32, 33, 34, 35, 36])
K = 6


@pytest.fixture
def body(make_network):
    """Give the body of a tiny Llama."""
    return make_network("llama", 320).base_model


@pytest.fixture(autouse=True)
def without_gradients():
    """Nothing here is trained."""
    with torch.no_grad():
        yield


def opened(body, prompts=PROMPTS, counted=None):
    """Read prompts, left-padded."""
    packed = Packed(body, (counted if counted is not None else []).append, len(prompts))
    ids, real, _ = left_padded(prompts, torch.device("cpu"))
    return packed, packed.feed(ids, real)


def whole(body, ids):
    """Give the last state of a text read on its own, without a cache."""
    return body(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]


def branches(m=1, seed=0):
    """Draw K continuations of m tokens for each prompt."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(3, 300, (len(PROMPTS), K, m), generator=rng)


def real_of(ids):
    """Say that every token counts."""
    return torch.ones_like(ids, dtype=torch.bool)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_packed_states_equal_full_readings(body, m):
    """Several continuations in one row have the states of texts read whole, padded or not."""
    packed, _ = opened(body)
    ids = branches(m)
    found = packed.branch(ids, real_of(ids))
    for row, prompt in enumerate(PROMPTS):
        for i in range(K):
            for upto in range(m):
                text = [*prompt, *ids[row, i, : upto + 1].tolist()]
                assert torch.allclose(found[row, i, upto], whole(body, text), atol=1e-5)


@pytest.mark.parametrize("first", [1, 2])
def test_branches_grow_token_by_token(body, first):
    """Continuations read in several passes, some of them ending early, are read as texts."""
    packed, _ = opened(body)
    ids = branches(first + 4)
    length = first + torch.arange(len(PROMPTS) * K).view(len(PROMPTS), K) % 5
    real = torch.arange(first + 4) < length[..., None]
    found = [packed.branch(ids[..., :first], real[..., :first])]
    for start, end in ((first, first + 1), (first + 1, first + 3), (first + 3, first + 4)):
        found.append(packed.extend(ids[..., start:end], real[..., start:end]))
    states = torch.cat(found, dim=2)
    for row, prompt in enumerate(PROMPTS):
        for i in range(K):
            for upto in range(int(length[row, i])):
                text = [*prompt, *ids[row, i, : upto + 1].tolist()]
                assert torch.allclose(states[row, i, upto], whole(body, text), atol=1e-5)
    packed.keep(torch.tensor([3, 0, 5]))
    after = packed.feed(torch.tensor([[7], [8], [9]]), torch.ones(3, 1, dtype=torch.bool))[:, 0]
    for row, (i, token) in enumerate(((3, 7), (0, 8), (5, 9))):
        text = [*PROMPTS[row], int(ids[row, i, 0]), token]
        assert torch.allclose(after[row], whole(body, text), atol=1e-5)


def test_packed_states_equal_replicated_caches(body):
    """One row of k candidates gives what k rows with a copy of the cache each give."""
    packed, _ = opened(body)
    ids = branches()
    found = packed.branch(ids, real_of(ids))
    packed.drop()
    rows = torch.arange(len(PROMPTS)).repeat_interleave(K)
    copies = packed.select(rows).feed(ids.reshape(-1, 1), real_of(ids.reshape(-1, 1)))
    assert torch.allclose(found.flatten(0, 2), copies[:, 0], atol=1e-5)


def test_the_chosen_candidate_stays_and_the_others_are_gone(body):
    """After a choice the text goes on as if only the chosen token had ever been read."""
    packed, _ = opened(body)
    texts = [list(p) for p in PROMPTS]
    for step in range(5):
        ids = branches(2, seed=step)
        packed.branch(ids, real_of(ids))
        chosen = torch.tensor([step % K, (step + 2) % K, K - 1])
        packed.keep(chosen)
        for row, text in enumerate(texts):
            text.append(int(ids[row, chosen[row], 0]))
        assert packed.cache.get_seq_length() == max(map(len, PROMPTS)) + step + 1
        assert packed.length.tolist() == [len(t) for t in texts]
    last = torch.tensor([[7], [8], [9]])
    found = packed.feed(last, real_of(last))[:, -1]
    for row, text in enumerate(texts):
        expected = whole(body, [*text, int(last[row])])
        assert torch.allclose(found[row], expected, atol=1e-5)


def test_dropped_branches_leave_no_trace(body):
    """Looking at candidates and reading something else equals never having looked."""
    packed, _ = opened(body)
    ids = branches()
    packed.branch(ids, real_of(ids))
    token = torch.tensor([[7], [8], [9]])
    found = packed.feed(token, real_of(token))[:, -1]
    for row, prompt in enumerate(PROMPTS):
        assert torch.allclose(found[row], whole(body, [*prompt, int(token[row])]), atol=1e-5)


def test_branches_of_different_lengths_do_not_meet_their_padding(body):
    """Padding behind a short branch changes no state before it, and none of its neighbours'."""
    packed, _ = opened(body)
    ids = branches(3)
    real = real_of(ids)
    real[:, ::2, 1:] = False
    found = packed.branch(ids, real)
    for row, prompt in enumerate(PROMPTS):
        for i in range(K):
            upto = 1 if i % 2 == 0 else 3
            text = [*prompt, *ids[row, i, :upto].tolist()]
            assert torch.allclose(found[row, i, upto - 1], whole(body, text), atol=1e-5)


def test_rows_fork_leave_and_go_back(body):
    """Rows may be repeated, dropped, and cut to an earlier length, each to its own."""
    packed, _ = opened(body)
    more = branches()[:, :4, 0]
    packed.feed(more, real_of(more))
    packed = packed.select(torch.tensor([2, 0, 0]))
    texts = [[*PROMPTS[r], *more[r].tolist()] for r in (2, 0, 0)]
    cut = torch.tensor([len(texts[0]) - 3, len(texts[1]), 2])
    packed.back_to(cut)
    token = torch.tensor([[7, 8], [9, 10], [11, 12]])
    real = torch.tensor([[True, True], [True, False], [False, False]])
    found = packed.feed(token, real)
    assert packed.length.tolist() == [int(cut[0]) + 2, int(cut[1]) + 1, 2]
    assert torch.allclose(found[0, 1], whole(body, [*texts[0][: cut[0]], 7, 8]), atol=1e-5)
    assert torch.allclose(found[1, 0], whole(body, [*texts[1], 9]), atol=1e-5)
    found = packed.feed(token[:, :1], torch.ones(3, 1, dtype=torch.bool))
    assert torch.allclose(found[2, 0], whole(body, [*texts[2][:2], 11]), atol=1e-5)


def test_tokens_are_counted_once(body):
    """A prompt costs its tokens once, a look k times m, and keeping costs nothing."""
    counted = []
    packed, _ = opened(body, counted=counted)
    ids = branches(2)
    packed.branch(ids, real_of(ids))
    packed.keep(torch.zeros(len(PROMPTS), dtype=torch.long))
    packed.branch(ids, real_of(ids))
    assert counted == [sum(map(len, PROMPTS)), len(PROMPTS) * K * 2, len(PROMPTS) * K * 2]


def test_the_mask_shows_text_and_own_branch():
    """Written out: two branches of two tokens after three columns, one of them padding."""
    seen = torch.tensor([[False, True, True]])
    mask = branch_mask(seen, torch.ones(1, 2, 2, dtype=torch.bool))[0, 0].long().tolist()
    assert mask == [
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0, 1, 0],
        [0, 1, 1, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma", "gpt2", "gpt_neox", "phi"])
def test_every_plain_architecture_packs(architecture, make_network):
    """Learned, rotary and partly rotary positions all follow the position ids."""
    net = make_network(architecture, 320)
    assert packs(net.config)
    packed, _ = opened(net.base_model)
    ids = branches(2)
    found = packed.branch(ids, real_of(ids))
    text = [*PROMPTS[1], *ids[1, 3].tolist()]
    assert torch.allclose(found[1, 3, 1], whole(net.base_model, text), atol=1e-4)


def test_networks_that_look_at_a_window_do_not_pack(make_network):
    """Sliding windows and position biases are told apart: such a network gets no packed mask."""
    assert not packs(make_network("mistral-window", 320).config)
    assert not packs(make_network("falcon-alibi", 320).config)
