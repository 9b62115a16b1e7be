"""What a run cost, counted where it is spent; weights that are on only while decoding."""

from contextlib import contextmanager

import pytest
import torch

from harness.engine.decoding import decode
from harness.engine.steering import HiddenEdit, Search, Site, Steering
from harness.ledger import Ledger


def sizes(model, jobs):
    """Give the prompts' lengths in tokens."""
    return [len(model.encode(job.chat)) for job in jobs]


@pytest.mark.parametrize("batch_rows", [1, 4, 64])
def test_an_answer_costs_its_prompt_and_its_tokens_but_the_last(
    tiny, batch_rows, make_jobs, answer
):
    """The last token is drawn and never read; padding and finished rows cost nothing."""
    jobs = make_jobs()
    free = answer(tiny, jobs)
    tiny.ends = (free[0].tokens[2], free[3].tokens[5])
    with tiny.metered(Ledger()) as ledger:
        found = answer(tiny, jobs, batch_rows=batch_rows)
    costs = [p + len(d.tokens) - 1 for p, d in zip(sizes(tiny, jobs), found, strict=True)]
    assert [d.cost for d in found] == [{"policy": c} for c in costs]
    assert ledger.tokens == {"policy": sum(costs)}
    assert len({len(d.tokens) for d in found}) > 1


@pytest.mark.parametrize("batch_rows", [4, 12, 64])
def test_candidates_share_their_prompt(llama, batch_rows, make_jobs, answer):
    """Best-of-N reads each prompt once, then every candidate's tokens but the last."""
    jobs = make_jobs()
    llama.ends = (answer(llama, jobs)[2].tokens[4],)
    search = Steering(search=Search(4, lambda rows: rows.slot.double()))
    with llama.metered(Ledger()) as ledger:
        found = answer(llama, jobs, search, batch_rows=batch_rows)
    costs = [
        p + sum(len(c.tokens) - 1 for c in d.pool)
        for p, d in zip(sizes(llama, jobs), found, strict=True)
    ]
    assert [d.cost["policy"] for d in found] == costs
    assert ledger.tokens["policy"] == sum(costs)


@pytest.mark.parametrize("batch_rows", [3, 64])
def test_block_search_pays_for_what_it_drops(llama, batch_rows, make_jobs, answer):
    """Without end tokens: the prompt, then every candidate of every block but the last tokens."""
    llama.ends = ()
    jobs = make_jobs(budget=10)
    search = Steering(search=Search(3, lambda rows: rows.slot.double(), blocks=4))
    with llama.metered(Ledger()) as ledger:
        found = answer(llama, jobs, search, batch_rows=batch_rows)
    costs = [p + 3 * 9 for p in sizes(llama, jobs)]
    assert [d.cost["policy"] for d in found] == costs
    assert ledger.tokens["policy"] == sum(costs)


def test_forwards_are_batched_calls(llama, make_jobs, answer):
    """One call reads the prompts, one more each further token, however many rows."""
    llama.ends = ()
    answer(llama, make_jobs(budget=7))
    assert llama.ledger.forwards == {"policy": 7}


def test_tokens_are_counted_under_the_models_role(make_model, make_jobs, answer):
    """Another role is another column."""
    model = make_model()
    model.role = "judge"
    (d,) = answer(model, make_jobs(("a",)))
    assert set(model.ledger.tokens) == set(d.cost) == {"judge"}


def test_metered_gives_the_count_back(llama, make_jobs, answer):
    """Inside the block another ledger counts; after it, even after an error, the model's own."""
    own = llama.ledger
    other = Ledger()

    def broken():
        with llama.metered(other):
            answer(llama, make_jobs())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert llama.ledger is own
    assert own.tokens == {}
    assert other.tokens["policy"] > 0


# ---------------------------------------------------------------- weights


class Switch:
    """A change of weights that says whether it is on."""

    def __init__(self, net):
        self.head = net.get_output_embeddings().weight
        self.on = False
        self.entered = 0

    @contextmanager
    def __call__(self):
        """Turn the output head over."""
        before = self.head.clone()
        self.head.data.mul_(-1)
        self.on, self.entered = True, self.entered + 1
        try:
            yield
        finally:
            self.on = False
            self.head.data.copy_(before)


def test_weights_are_on_while_decoding_and_off_between_batches(llama, make_jobs):
    """The edits run on the changed model; the caller never meets it."""
    switch = Switch(llama.net)
    seen = []

    def look(hidden, step):
        seen.append(switch.on)
        return hidden

    steering = Steering(weights=switch, hidden=(HiddenEdit(Site.layer(0), look),))
    for _ in decode(llama, make_jobs(), steering, batch_rows=2):
        assert not switch.on
    assert all(seen)
    assert switch.entered > 1


def test_weights_change_the_answers(llama, make_jobs, answer):
    """Turning the output head over is turning the logits over."""
    jobs = make_jobs()
    switch = Switch(llama.net)
    turned = answer(llama, jobs, Steering(logits=(lambda z, s: -z,)))
    before = switch.head.clone()
    assert [d.tokens for d in answer(llama, jobs, Steering(weights=switch))] == [
        d.tokens for d in turned
    ]
    assert torch.equal(switch.head, before)


def test_weights_are_off_after_an_exception_and_an_abandoned_run(llama, make_jobs, answer):
    """Neither an error nor a caller who walks away leaves the model changed."""
    switch = Switch(llama.net)
    before = switch.head.clone()

    def fail(logits, step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer(llama, make_jobs(), Steering(weights=switch, logits=(fail,)))
    assert torch.equal(switch.head, before)
    waiting = decode(llama, make_jobs(), Steering(weights=switch), batch_rows=2)
    next(waiting)
    assert torch.equal(switch.head, before)


def test_prompt_edits_meet_the_unchanged_model(llama, make_jobs, answer):
    """A prompt edit that asks the model asks it as it was."""
    switch = Switch(llama.net)
    seen = []

    def edit(chats):
        seen.append(switch.on)
        return chats

    answer(llama, make_jobs(), Steering(prompt=(edit,), weights=switch))
    assert seen == [False]
