"""Answers grown by segments: rows of one batch that differ in age, in every architecture."""

import pytest
import torch

from harness.engine.sampling import Luck, uniforms
from harness.engine.segments import Segments
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError


def mixed(rows):
    """Give every row a number that its tokens decide, and nothing else."""
    values = [sum((i + 3) * t * 7919 % 101 for i, t in enumerate(ts)) % 97 for ts in rows.tokens()]
    return torch.tensor(values, dtype=torch.float64)


def by_segments(accept, tries=4):
    """Search by segments of three to five tokens, as the model is sure or unsure."""

    def ends(log_p, tokens):
        unsure = torch.special.entr(log_p.exp()).sum(-1) > 4.0
        return (tokens >= 3) & unsure | (tokens >= 5)

    segments = Segments(ends, accept, tries)
    return Steering(search=Search(1, mixed, reads=True, segments=segments))


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def test_rows_of_different_ages_do_not_touch_each_other(
    architecture, make_model, make_jobs, answer
):
    """Rows that reject answer in a batch as they do alone; what is rejected leaves no trace."""
    model, jobs = make_model(architecture), make_jobs(budget=12)
    steering = by_segments(lambda scores, rows: scores > 40)
    if not model.masks_4d:
        with pytest.raises(PlumblineError, match="every layer attends to all earlier tokens"):
            answer(model, jobs, steering)
        return
    together = answer(model, jobs, steering)
    alone = answer(model, jobs, steering, batch_rows=1)
    assert tokens(together) == tokens(alone)
    assert [d.cost for d in together] == [d.cost for d in alone]
    plain = answer(model, jobs)
    assert tokens(together) != tokens(plain)
    assert tokens(answer(model, jobs, by_segments(lambda s, rows: s > -1))) == tokens(plain)


def test_the_best_is_kept_where_none_is_accepted(make_model, make_jobs, answer):
    """Drawn again by its own luck, the best of the proposals is what the answer goes on from."""
    model, seen = make_model("llama", ends=False), []

    def never(scores, rows):
        seen.extend(zip(rows.tokens(), scores.tolist(), strict=True))
        return scores > 1e9

    (found,) = answer(model, make_jobs(("hi",), budget=5), by_segments(never, tries=6))
    assert len(seen[:6]) == 6
    first = max(seen[:6], key=lambda pair: pair[1])[0]
    assert list(found.tokens[: len(first)]) == first
    assert len({tuple(said) for said, _ in seen[:6]}) > 3


def test_luck_is_numbered_on_without_a_bound():
    """A stream beyond the first ones is made when it is asked for, the same as ever."""
    keys = [(0, "a", 0), (0, "b", 0)]
    luck = Luck(keys, 1, 4, "", torch.device("cpu"))
    slots, places = torch.tensor([7, 30]), torch.tensor([2, 0])
    found = luck.at(torch.tensor([0, 1]), slots, places)
    assert found.tolist() == [uniforms((0, "a", 0, 7), 4)[2], uniforms((0, "b", 0, 30), 4)[0]]
    mine = luck.stream("mine", torch.tensor([0, 1]), slots, places)
    assert mine.tolist() == [
        uniforms((0, "a", 0, 7, "mine"), 4)[2],
        uniforms((0, "b", 0, 30, "mine"), 4)[0],
    ]


def test_a_segment_needs_a_proposal():
    """No proposals are nothing to choose from."""
    with pytest.raises(PlumblineError, match="proposals of a segment are 0"):
        Segments(lambda log_p, n: n > 0, lambda scores, rows: scores > 0, 0)
