"""What the loop promises: luck, batches and the order of things."""

import hashlib
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from harness.engine.decoding import decode
from harness.engine.steering import (
    HiddenEdit,
    Search,
    Site,
    Steering,
    after_prompt,
    at_last,
)


def number(text):
    """Give a text's own number in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


def shifts(chats):
    """Prepare one direction per prompt, a function of its words alone."""
    rows = [
        torch.randn(32, generator=torch.Generator().manual_seed(int(number(c.last_user) * 1e9)))
        for c in chats
    ]
    return {"shift": torch.stack(rows)}


def by_prompt(hidden, step):
    """Add the prompt's own direction."""
    return hidden + step.rows.of_prompt("shift")[:, None]


PER_PROMPT = Steering(
    prepare=(shifts,),
    hidden=(
        HiddenEdit(Site.layer(0), after_prompt(by_prompt)),
        HiddenEdit(Site.mlp(-1), at_last(by_prompt)),
    ),
    logits=(lambda z, s: z + s.rows.of_prompt("shift")[:, :1] * (s.index % 3) * z.tanh(),),
)


def words(rows):
    """Score rows by their words."""
    return torch.tensor([number(text) for text in rows.texts()], dtype=torch.float64)


def tokens(found):
    """Give the answers' tokens."""
    return [d.tokens for d in found]


# ------------------------------------------------------------------ luck


@pytest.mark.parametrize("steering", [Steering(), PER_PROMPT], ids=["base", "edited"])
def test_a_batch_of_six_equals_six_batches_of_one(tiny, steering, make_jobs, answer):
    """Sampled answers do not depend on what else is in the batch."""
    jobs = make_jobs()
    alone = [answer(tiny, [job], steering)[0].tokens for job in jobs]
    assert tokens(answer(tiny, jobs, steering)) == alone
    assert len(set(alone)) > 1


def test_neither_order_nor_batch_size_nor_padding_changes_a_sample(tiny, make_jobs, answer):
    """A prompt's answer is the same in any order, at any batch size, beside any neighbour."""
    jobs = make_jobs()
    expected = tokens(answer(tiny, jobs, PER_PROMPT))
    assert tokens(answer(tiny, jobs[::-1], PER_PROMPT))[::-1] == expected
    assert tokens(answer(tiny, jobs, PER_PROMPT, batch_rows=4)) == expected
    long = replace(jobs[2], id="long", chat=jobs[2].chat.user("once more, " * 6))
    assert tokens(answer(tiny, [*jobs, long], PER_PROMPT))[:-1] == expected


def test_the_edits_of_these_tests_bite(llama, make_jobs, answer):
    """The steering used here changes answers, so that equal answers mean something."""
    jobs = make_jobs()
    assert tokens(answer(llama, jobs, PER_PROMPT)) != tokens(answer(llama, jobs))


def test_luck_is_named_by_seed_prompt_turn_and_stream(llama, make_jobs, answer):
    """Another seed, turn, prompt id or noise name is other luck; the same is the same."""
    jobs = make_jobs(("same words", "same words"), budget=12)
    base = tokens(answer(llama, jobs))
    assert base[0] != base[1]
    assert tokens(answer(llama, jobs)) == base
    assert tokens(answer(llama, jobs, seed=1))[0] != base[0]
    assert tokens(answer(llama, make_jobs(("same words",), budget=12, turn=1)))[0] != base[0]
    assert tokens(answer(llama, jobs, Steering(noise="other")))[0] != base[0]


def test_a_longer_budget_keeps_the_shorter_answer_as_its_head(llama, make_jobs, answer):
    """The budget cuts a sample; it does not change it."""
    short = tokens(answer(llama, make_jobs(budget=5)))
    long = tokens(answer(llama, make_jobs(budget=15)))
    assert [t[:5] for t in long] == short


def test_jobs_that_sample_differently_are_answered_as_they_ask(llama, make_jobs, answer):
    """Greedy and sampled jobs of different budgets may be mixed in one call."""
    greedy, sampled = make_jobs(temperature=0, budget=4), make_jobs(budget=9)
    mixed = [*greedy[:3], *sampled[3:]]
    found = tokens(answer(llama, mixed))
    assert found == tokens(answer(llama, greedy))[:3] + tokens(answer(llama, sampled))[3:]


def test_no_jobs_give_no_answers(llama):
    """Decoding nothing yields nothing."""
    assert list(decode(llama, [])) == []


# ------------------------------------------------------------ order, passes


def test_things_happen_in_the_promised_order(llama, make_jobs, answer):
    """Prompt edits, weights on, prepare, hidden, logits, score, weights off."""
    seen = []

    def note(what, value=None):
        if what not in seen:
            seen.append(what)
        return value

    @contextmanager
    def weights():
        note("weights on")
        yield
        note("weights off")

    def score(rows):
        return note("score", torch.zeros(len(rows)))

    steering = Steering(
        prompt=(lambda chats: note("prompt", chats),),
        weights=weights,
        prepare=(lambda chats: note("prepare", {}),),
        hidden=(HiddenEdit(Site.layer(0), lambda h, s: note("hidden", h)),),
        logits=(lambda z, s: note("logits", z),),
        search=Search(2, score),
    )
    answer(llama, make_jobs(), steering)
    assert seen == [
        "prompt", "weights on", "prepare", "hidden", "logits", "score", "weights off",
    ]  # fmt: skip


def test_edits_are_told_what_they_see(llama, make_jobs, answer):
    """A step tells padding, prompt, response, positions and age, as they are."""
    seen = []

    def look(hidden, step):
        seen.append((step.positions, step.real, step.response, step.draws, step.index,
                     step.is_prompt, hidden.shape[:2]))  # fmt: skip
        return hidden

    llama.ends = ()
    jobs = make_jobs(("a", "a longer prompt"), temperature=0, budget=3)
    answer(llama, jobs, Steering(hidden=(HiddenEdit(Site.layer(1), look),)))
    sizes = [len(llama.encode(jobs[i].chat)) for i in (1, 0)]
    positions, real, response, draws, index, is_prompt, shape = seen[0]
    assert shape == (2, sizes[0])
    assert real.sum(-1).tolist() == sizes
    assert bool(real[:, -1].all())
    assert positions[real].tolist() == [*range(sizes[0]), *range(sizes[1])]
    assert not response.any()
    assert draws.sum(-1).tolist() == [1, 1]
    assert bool(draws[:, -1].all())
    assert (index, is_prompt) == (0, True)
    assert len(seen) == 3
    for t, (positions, real, response, draws, index, is_prompt, _) in enumerate(seen[1:], start=1):
        assert positions.flatten().tolist() == [n + t - 1 for n in sizes]
        assert bool(real.all() and response.all() and draws.all())
        assert (index, is_prompt) == (t, False)


def test_finished_rows_are_not_real(llama, make_jobs, answer):
    """A row that has ended is told as not real for as long as it stays in the batch."""
    jobs = make_jobs(tuple("abcdefghijklmnopqrst"), temperature=0.0, budget=8)
    llama.ends = ()
    free = answer(llama, jobs)
    llama.ends = (free[3].tokens[2],)
    lengths = {job.chat: len(d.tokens) for job, d in zip(jobs, answer(llama, jobs), strict=True)}
    odd = 0

    def look(logits, step):
        nonlocal odd
        for chat, real in zip(step.rows.asked(), step.real[:, -1].tolist(), strict=True):
            assert real == (step.index < lengths[chat])
            odd += not real
        return logits

    answer(llama, jobs, Steering(logits=(look,)))
    assert odd > 0
    assert len(set(lengths.values())) > 1


def test_nan_at_padding_and_in_finished_rows_does_no_harm(tiny, make_jobs, answer):
    """What an edit makes of padding and of finished rows reaches no answer."""
    jobs = make_jobs((*tuple("abcdefghijklmnop"), "a long prompt this is"), budget=8)
    free = answer(tiny, jobs)
    tiny.ends = (free[3].tokens[2], free[9].tokens[-1])
    nan = torch.tensor(float("nan"))

    def spoil(hidden, step):
        return torch.where(step.real[..., None], hidden, nan)

    def spoil_logits(logits, step):
        return torch.where(step.real[:, -1:], logits, nan)

    steering = Steering(hidden=(HiddenEdit(Site.layer(0), spoil),), logits=(spoil_logits,))
    assert tokens(answer(tiny, jobs, steering)) == tokens(answer(tiny, jobs))


def test_hidden_edits_may_open_gradients(llama, make_jobs, answer):
    """An edit may take gradients of its own on a detached copy."""

    def climb(hidden, step):
        with torch.enable_grad():
            leaf = hidden.detach().requires_grad_()
            (leaf**2).sum().backward()
        return hidden - 0.25 * leaf.grad

    halved = Steering(hidden=(HiddenEdit(Site.final(), lambda h, s: h * 0.5),))
    steering = Steering(hidden=(HiddenEdit(Site.final(), climb),))
    jobs = make_jobs()
    assert tokens(answer(llama, jobs, steering)) == tokens(answer(llama, jobs, halved))


def test_decoding_leaves_gradients_as_they_were(llama, make_jobs):
    """Between two batches the caller's own gradient mode holds."""
    for _ in decode(llama, make_jobs(), batch_rows=2):
        assert torch.is_grad_enabled()


def test_rows_keep_the_words_of_the_user(llama, make_jobs, answer):
    """Edits, scores and prepare see the user's words, the model the edited prompt."""
    jobs = make_jobs()
    users = {job.chat for job in jobs}
    seen = set()

    def prepare(chats):
        seen.update(chats)
        return {}

    def score(rows):
        seen.update(rows.asked())
        return words(rows)

    told = Steering(
        prompt=(lambda chats: [c.with_system("Be brief.") for c in chats],),
        prepare=(prepare,),
    )
    assert tokens(answer(llama, jobs, told)) != tokens(answer(llama, jobs))
    answer(llama, jobs, told + Steering(search=Search(2, score)))
    assert seen == users


def test_a_methods_own_draws_do_not_depend_on_the_batch(llama, make_jobs, answer):
    """``rows.uniform`` is keyed by prompt, candidate and position, not by the batch."""
    streams = {}

    def look(logits, step):
        for chat, u in zip(step.rows.asked(), step.rows.uniform("mine").tolist(), strict=True):
            streams.setdefault(chat, []).append(u)
        return logits

    jobs = make_jobs()
    llama.ends = ()
    answer(llama, jobs, Steering(logits=(look,)))
    together, streams = streams, {}
    answer(llama, jobs, Steering(logits=(look,)), batch_rows=1)
    assert together == streams
    flat = [u for us in streams.values() for u in us]
    assert len(set(flat)) == len(flat)
    assert all(0 <= u < 1 for u in flat)
