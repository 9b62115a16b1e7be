"""Running out of memory, logits that are no numbers, prompts that do not fit."""

import pytest
import torch

from harness.engine.decoding import decode
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError


class Small:
    """A network that fails above so many rows, as a full device does."""

    def __init__(self, net, rows, error):
        self.net, self.rows, self.error, self.seen = net, rows, error, []

    def __getattr__(self, name):
        return getattr(self.net, name)

    def __call__(self, **given):
        """Run, or fail."""
        self.seen.append(len(given["input_ids"]))
        if self.seen[-1] > self.rows:
            raise self.error
        return self.net(**given)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=["device", "allocator", "python"])
def test_a_batch_that_does_not_fit_is_halved(llama, error, make_jobs, answer):
    """Out of memory halves the batch until it fits; every answer is there and the same."""
    jobs = make_jobs()
    expected = [d.tokens for d in answer(llama, jobs)]
    llama.net = small = Small(llama.net, 2, error)
    assert [d.tokens for d in answer(llama, jobs)] == expected
    assert small.seen[:2] == [6, 3]
    assert max(small.seen[2:]) <= 2


def test_later_batches_start_at_the_size_that_fits(llama, make_jobs):
    """What was learned from the first batch holds for the others."""
    llama.net = small = Small(llama.net, 2, ERRORS[0])
    jobs = make_jobs(tuple("abcdefghijkl"), budget=3)
    done = [d.job for batch in decode(llama, jobs, batch_rows=4) for d in batch]
    assert sorted(done) == list(range(12))
    assert sum(n > 2 for n in small.seen) == 1


def test_candidates_count_as_rows(llama, make_jobs, answer):
    """A fork that does not fit halves the prompts, not the candidates."""
    search = Steering(search=Search(3, lambda rows: -rows.slot.double()))
    jobs = make_jobs()
    expected = [d.pool for d in answer(llama, jobs, search)]
    llama.net = small = Small(llama.net, 6, ERRORS[0])
    assert [d.pool for d in answer(llama, jobs, search, batch_rows=18)] == expected
    assert max(n for n in small.seen if n <= 6) == 6


def test_one_prompt_that_does_not_fit_is_an_error(llama, make_jobs, answer):
    """Where not even one row fits, one clear line names the prompt."""
    llama.net = Small(llama.net, 0, ERRORS[0])
    with pytest.raises(PlumblineError, match=r"out of memory with one prompt \(p\d\)"):
        answer(llama, make_jobs())


def test_another_error_is_not_taken_for_memory(llama, make_jobs, answer):
    """A bug stays a bug."""
    llama.net = Small(llama.net, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        answer(llama, make_jobs())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_that_are_no_numbers_name_the_prompt(llama, value, temperature, make_jobs, answer):
    """NaN and +inf logits are an error that says which prompt, and after how many tokens."""

    def edit(logits, step):
        out = logits.clone()
        ill = torch.tensor([c.last_user == "The sun is" for c in step.rows.asked()])
        if step.index == 2:
            out[ill, 7] = value
        return out

    llama.ends = ()
    jobs = make_jobs(temperature=temperature, turn=1)
    message = r"prompt p5, turn 1: logits are NaN or infinite after 2 tokens"
    with pytest.raises(PlumblineError, match=message):
        answer(llama, jobs, Steering(logits=(edit,)))


def test_ruling_everything_out_is_an_error(llama, make_jobs, answer):
    """Logits of which none is finite leave nothing to draw."""
    none = Steering(logits=(lambda z, s: torch.full_like(z, float("-inf")),))
    with pytest.raises(PlumblineError, match="NaN or infinite after 0 tokens"):
        answer(llama, make_jobs(), none)


def test_a_prompt_that_leaves_no_room_is_an_error(llama, make_jobs, answer):
    """Prompt and budget must fit the context; the limit itself fits."""
    prompt = len(llama.encode(make_jobs(("word " * 10,))[0].chat))
    room = llama.context - prompt
    llama.ends = ()
    (d,) = answer(llama, make_jobs(("word " * 10,), budget=room))
    assert len(d.tokens) == room
    message = rf"prompt p0: {prompt} tokens and a budget of {room + 1} do not fit .* of 160"
    with pytest.raises(PlumblineError, match=message):
        answer(llama, make_jobs(("word " * 10,), budget=room + 1))


def test_a_prompt_edit_may_make_a_prompt_too_long(llama, make_jobs, answer):
    """The room is measured after the prompt edits."""
    long = Steering(prompt=(lambda chats: [c.with_system("x " * 200) for c in chats],))
    with pytest.raises(PlumblineError, match="do not fit"):
        answer(llama, make_jobs(), long)


def test_an_empty_prompt_is_an_error(make_model, make_jobs, make_tokenizer, answer):
    """A prompt of no tokens at all cannot be continued."""
    from harness.chat import Template
    from harness.engine.model import Model

    model = make_model()
    mute = Model(
        model.net,
        make_tokenizer("bytes", bos=False),
        Template("mute", lambda chat: ""),
        name="mute",
    )
    with pytest.raises(PlumblineError, match="prompt p0 is empty after the chat template"):
        answer(mute, make_jobs())
