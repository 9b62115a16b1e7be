"""Sums of steerings, what they refuse, and the wrappers that say where an edit acts."""

from contextlib import nullcontext

import pytest
import torch

from harness.chat import Chat
from harness.engine.rows import Step
from harness.engine.steering import (
    HiddenEdit,
    Search,
    Site,
    Steering,
    after_prompt,
    at_last,
    best_of_each,
)
from harness.errors import PlumblineError


def score(rows):
    """Score by slot."""
    return rows.slot.double()


def test_a_sum_keeps_the_order_of_its_parts():
    """Left first, in every part."""
    edits = [lambda z, s: z, lambda z, s: z]
    hidden = [HiddenEdit(Site.layer(i), lambda h, s: h) for i in range(2)]
    prompts = [lambda c: c, lambda c: c]
    prepare = [lambda c: {}, lambda c: {}]
    left, right = (
        Steering((p,), None, (q,), (h,), (z,), None, (stop,), noise)
        for p, q, h, z, stop, noise in zip(
            prompts, prepare, hidden, edits, ("x", "y"), ("one", "two"), strict=True
        )
    )
    both = left + right
    assert both.prompt == tuple(prompts)
    assert both.prepare == tuple(prepare)
    assert both.hidden == tuple(hidden)
    assert both.logits == tuple(edits)
    assert both.stop == ("x", "y")
    assert both.noise == "one+two"
    assert (Steering() + right).noise == "two"


def test_a_sum_takes_the_one_search_and_the_one_change_of_weights():
    """What may stand once is kept from either side."""
    search, weights = Search(2, score), nullcontext
    for both in (
        Steering(search=search) + Steering(weights=weights),
        Steering(weights=weights) + Steering(search=search),
    ):
        assert both.search is search
        assert both.weights is weights


def test_two_searches_or_two_changes_of_weights_are_refused():
    """They have no order that makes sense."""
    with pytest.raises(PlumblineError, match="two methods in the stack search"):
        Steering(search=Search(2, score)) + Steering(search=Search(3, score))
    with pytest.raises(PlumblineError, match="two methods in the stack change the weights"):
        Steering(weights=nullcontext) + Steering(weights=nullcontext)


def test_touches_names_what_is_set():
    """The empty steering touches nothing; each part is named when it is set."""
    parts = {
        "prompt": (lambda c: c,),
        "weights": nullcontext,
        "prepare": (lambda c: {},),
        "hidden": (HiddenEdit(Site.final(), lambda h, s: h),),
        "logits": (lambda z, s: z,),
        "search": Search(2, score),
        "stop": ("x",),
        "noise": "n",
    }
    assert Steering().touches == frozenset()
    for name, value in parts.items():
        assert Steering(**{name: value}).touches == {name}
    everything = Steering(**parts)
    assert everything.touches == set(parts)
    assert everything.without_search().touches == set(parts) - {"search"}


def test_prompt_edits_apply_left_to_right():
    """The right method sees what the left one wrote."""
    one = Steering(prompt=(lambda chats: [c.user("one") for c in chats],))
    two = Steering(prompt=(lambda chats: [c.user(c.last_user + " two") for c in chats],))
    (chat,) = (one + two).prompted([Chat()])
    assert [m.text for m in chat.messages] == ["one", "one two"]


def test_a_prompt_edit_must_keep_the_number_of_conversations():
    """An edit that loses a conversation is refused."""
    with pytest.raises(PlumblineError, match="made 1 conversations of 2"):
        Steering(prompt=(lambda chats: chats[:1],)).prompted([Chat.of("a"), Chat.of("b")])


@pytest.mark.parametrize("shape", [(3, 4), (1,), ()])
def test_prepared_tensors_have_one_entry_per_prompt(shape):
    """A tensor whose first axis is not the prompts is refused by name."""
    steering = Steering(prepare=(lambda chats: {"basis": torch.zeros(shape)},))
    with pytest.raises(PlumblineError, match=r"prepare made 'basis'.*number of prompts, 2"):
        steering.prepared([Chat.of("a"), Chat.of("b")])


def test_two_prepared_tensors_of_one_name_are_refused():
    """Methods of a stack may not overwrite each other's tensors."""
    one = Steering(prepare=(lambda chats: {"basis": torch.zeros(len(chats))},))
    with pytest.raises(PlumblineError, match=r"named 'basis'.*names must differ"):
        (one + one).prepared([Chat.of("a")])


@pytest.mark.parametrize("shape", [(1, 5), (2, 4), (2, 5, 1)])
def test_a_logits_edit_must_keep_the_shape(shape):
    """Broadcasting by accident is refused."""
    steering = Steering(logits=(lambda z, s: torch.zeros(shape),))
    with pytest.raises(PlumblineError, match=r"logits edit returned shape .* keep \(2, 5\)"):
        steering.edited_logits(torch.zeros(2, 5), None)


@pytest.mark.parametrize(
    ("search", "message"),
    [({"width": 0}, "width is 0"), ({"width": 2, "blocks": 0}, "blocks are 0"),
     ({"width": 2, "blocks": (4, -1)}, r"blocks are \(4, -1\)")],
)  # fmt: skip
def test_a_search_out_of_range_is_refused(search, message):
    """Width and blocks are at least one."""
    with pytest.raises(PlumblineError, match=message):
        Search(score=score, **search)


def test_when_a_search_selects():
    """After every block, at the checkpoints, or never before the end."""
    assert [t for t in range(1, 13) if Search(2, score, 4).selects_at(t)] == [4, 8, 12]
    assert [t for t in range(1, 13) if Search(2, score, (3, 7)).selects_at(t)] == [3, 7]
    assert not any(Search(2, score).selects_at(t) for t in range(1, 13))


def step(draws, response, real):
    """Make a step of the given masks."""
    tensors = [torch.tensor(x, dtype=torch.bool) for x in (real, response, draws)]
    return Step(None, torch.arange(tensors[0].shape[1])[None], *tensors, 0)


@pytest.mark.parametrize("extra", [(6,), (4, 6)], ids=["width", "heads"])
def test_at_last_edits_what_draws(extra):
    """Positions that draw a token are edited, whether the last only or several."""
    hidden = torch.randn(2, 3, *extra)
    prefill = step([[0, 0, 1], [0, 0, 1]], [[0] * 3] * 2, [[1] * 3, [0, 1, 1]])
    seen = []

    def edit(h, s):
        seen.append(h.shape[1])
        assert s.real.shape == s.draws.shape == h.shape[:2]
        return h + 1

    out = at_last(edit)(hidden, prefill)
    assert torch.equal(out[:, :2], hidden[:, :2])
    assert torch.equal(out[:, 2], hidden[:, 2] + 1)
    assert seen == [1]  # the prompt is not edited in vain
    forced = step([[0, 1, 1], [0, 0, 1]], [[0, 0, 1], [0, 0, 0]], [[1] * 3] * 2)
    where = forced.draws
    out = at_last(edit)(hidden, forced)
    assert torch.equal(out[where], hidden[where] + 1)
    assert torch.equal(out[~where], hidden[~where])


@pytest.mark.parametrize("extra", [(6,), (4, 6)], ids=["width", "heads"])
def test_after_prompt_edits_the_response(extra):
    """Drawn tokens are edited; the prompt and finished rows are not."""
    hidden = torch.randn(2, 3, *extra)
    prompt = step([[0, 0, 1]] * 2, [[0] * 3] * 2, [[1] * 3] * 2)
    assert after_prompt(lambda h, s: h + 1)(hidden, prompt) is hidden
    forced = step([[0, 1, 1]] * 2, [[0, 1, 1]] * 2, [[1, 1, 1], [0, 0, 0]])
    out = after_prompt(lambda h, s: h + 1)(hidden, forced)
    where = forced.response & forced.real
    assert torch.equal(out[where], hidden[where] + 1)
    assert torch.equal(out[~where], hidden[~where])


def test_the_best_of_each_prompt():
    """One index per prompt, in order; ties go to the lower slot; -inf can win alone."""

    class Given:
        origin = torch.tensor([1, 0, 1, 0, 2])
        slot = torch.tensor([1, 1, 0, 0, 0])

    scores = torch.tensor([5.0, 2.0, 5.0, 1.0, float("-inf")])
    assert best_of_each(scores, Given()).tolist() == [1, 2, 4]
