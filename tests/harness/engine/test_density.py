"""Teacher forcing agrees with decoding, and divergences with computations by hand."""

import math
from contextlib import contextmanager

import pytest
import torch

from harness.engine.decoding import decode
from harness.engine.density import NoDensity, forced, logprobs, search_bound, sequence_kl
from harness.engine.steering import (
    HiddenEdit,
    Search,
    Site,
    Steering,
    after_prompt,
    at_last,
)
from harness.errors import PlumblineError

GENERATOR = torch.Generator().manual_seed(5)
FLAT, HEADS = torch.randn(32, generator=GENERATOR), torch.randn(4, 1, generator=GENERATOR)
TILT = torch.randn(512, generator=GENERATOR)


def add(hidden, step):
    """Shift by a constant that fits the site."""
    return hidden + (HEADS if hidden.dim() == 4 else FLAT)


def tilt(size):
    """Give a fixed direction over the vocabulary."""
    return TILT[:size]


def by_ids(logits, step):
    """Discourage what was drawn before, read off the tokens drawn so far."""
    drawn = step.rows.ids[:, : step.rows.drawn]
    seen = torch.zeros_like(logits).scatter_add_(
        1, drawn, torch.ones_like(drawn, dtype=logits.dtype)
    )
    return logits - seen + 0.01 * step.rows.ids.sum(-1, keepdim=True)[:, :1] * tilt(logits.shape[1])


def by_index(logits, step):
    """Tilt every third draw."""
    return logits + tilt(logits.shape[1]) * float(step.index % 3 == 1)


def by_hidden(logits, step):
    """Tilt by the head's input."""
    return logits + step.rows.hidden[:, :1].tanh() * tilt(logits.shape[1])


def by_prompt(logits, step):
    """Tilt by a tensor of the prompt's own."""
    return logits + step.rows.of_prompt("mine")[:, None] * tilt(logits.shape[1])


def by_text(logits, step):
    """Tilt by the words so far and the positions told."""
    odd = torch.tensor([len(t) % 2 for t in step.rows.texts()])[:, None]
    first = float(step.is_prompt)
    return logits + (odd + first + step.positions % 5 + step.response) * tilt(logits.shape[1])


class Count:
    """A carried extra: how often its row has been met."""

    def __init__(self, times):
        self.times = times

    def select(self, index):
        """Follow the rows."""
        return Count(self.times[index])


def by_carry(logits, step):
    """Tilt by an extra that lives with the rows."""
    carry = step.rows.carry
    old = carry["count"].times if "count" in carry else torch.zeros(len(step.rows))
    carry["count"] = Count(old + 1 + step.rows.of_prompt("mine"))
    return logits + carry["count"].times[:, None].sin() * tilt(logits.shape[1])


def mine(chats):
    """Prepare one number per prompt."""
    return {"mine": torch.tensor([float(len(c.last_user) % 7) for c in chats])}


HIDDEN = {
    site.place: Steering(
        hidden=(HiddenEdit(site, at_last(add)), HiddenEdit(site, after_prompt(add)))
    )
    for site in (Site.layer(1), Site.mlp(1), Site.attention(1), Site.heads(0), Site.final())
}
LOGITS = {
    edit.__name__: Steering(logits=(edit,), prepare=(mine,))
    for edit in (by_ids, by_index, by_hidden, by_prompt, by_text, by_carry)
}
EVERYWHERE = Steering(hidden=tuple(h for s in HIDDEN.values() for h in s.hidden), logits=(by_ids,))


def decoded(model, jobs, steering, answer):
    """Decode; give the tokens and the log-probabilities of the draws, as the loop saw them."""
    kept = {}

    def look(logits, step):
        for chat, row in zip(step.rows.asked(), logits.log_softmax(-1), strict=True):
            kept[chat, step.index] = row.clone()
        return logits

    found = answer(model, jobs, steering + Steering(logits=(look,)))
    tokens = [d.tokens for d in found]
    return tokens, [
        torch.stack([kept[job.chat, t][token] for t, token in enumerate(ids)])
        for job, ids in zip(jobs, tokens, strict=True)
    ]


def agree(model, steering, make_jobs, answer):
    """Check that teacher forcing gives each draw the log-probability that decoding gave it."""
    jobs = make_jobs(budget=9)
    free = answer(model, jobs, steering)
    model.ends = (free[1].tokens[3], 2)  # so that the responses differ in length
    tokens, expected = decoded(model, jobs, steering, answer)
    found = logprobs(model, jobs, tokens, steering, batch_rows=4)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-4)
    assert len({len(ids) for ids in tokens}) > 1
    base = logprobs(model, jobs, tokens)
    assert any((a - b).abs().max() > 1e-2 for a, b in zip(base, found, strict=True))


@pytest.mark.parametrize("name", HIDDEN)
def test_teacher_forcing_meets_the_edits_of_a_site_as_decoding_does(tiny, name, make_jobs, answer):
    """Under an edit at any site, forced and drawn log-probabilities are the same."""
    agree(tiny, HIDDEN[name], make_jobs, answer)


@pytest.mark.parametrize("name", LOGITS)
def test_teacher_forcing_meets_logits_edits_as_decoding_does(llama, name, make_jobs, answer):
    """A logits edit sees in teacher forcing what it saw while drawing."""
    agree(llama, LOGITS[name], make_jobs, answer)


def test_all_edits_at_once_agree(tiny, make_jobs, answer):
    """All sites together, with an edit of logits on top, agree on every architecture."""
    agree(tiny, EVERYWHERE, make_jobs, answer)


def test_greedy_answers_are_the_argmax_of_their_own_density(tiny, make_jobs, answer):
    """No other token is likelier at any position than the one that greedy decoding drew."""
    jobs = make_jobs(temperature=0, budget=5)
    drawn = [d.tokens for d in answer(tiny, jobs, EVERYWHERE)]
    best = logprobs(tiny, jobs, drawn, EVERYWHERE)
    for other in (7, 100, 250):
        for t in range(5):
            changed = [[*ids[:t], other] if len(ids) > t else [] for ids in drawn]
            found = logprobs(tiny, jobs, changed, EVERYWHERE)
            for a, b in zip(found, best, strict=True):
                assert not len(a) or a[t] <= b[t] + 1e-4


def test_logprobs_equal_an_unpadded_forward(tiny, make_jobs):
    """Without steering the log-probabilities are those of a plain forward pass."""
    jobs = make_jobs()
    tokens = [[5, 6, 7], [8], [9, 10], [], [40] * 12, [2]]
    found = logprobs(tiny, jobs, tokens, batch_rows=4)
    for job, ids, mine in zip(jobs, tokens, found, strict=True):
        prompt = tiny.encode(job.chat)
        with torch.no_grad():
            table = tiny.net(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
        expected = [float(table[len(prompt) - 1 + t, token]) for t, token in enumerate(ids)]
        assert mine.tolist() == pytest.approx(expected, abs=1e-4)
        assert mine.dtype == torch.float32


def by_job(batches, tokens):
    """Give each job's own logits."""
    return {
        i: logits[row, -len(tokens[i]) :]
        for batch, logits in batches
        for row, i in enumerate(batch)
    }


@pytest.mark.parametrize("name", [*HIDDEN, *LOGITS])
def test_padding_on_either_side_gives_the_same_density(tiny, name, make_jobs):
    """Whole texts, padded on the right, meet every edit as those padded on the left do."""
    steering = {**HIDDEN, **LOGITS}[name]
    jobs = make_jobs()
    tokens = [[5, 6, 7], [8], [9, 10], [], [40] * 12, [2]]
    left = by_job(forced(tiny, jobs, tokens, steering, 4), tokens)
    right = by_job(forced(tiny, jobs, tokens, steering, 4, whole=True), tokens)
    assert left.keys() == right.keys() == {0, 1, 2, 4, 5}
    for i, logits in left.items():
        torch.testing.assert_close(logits, right[i], rtol=1e-4, atol=2e-4)


def test_whole_texts_equal_a_plain_batch_to_the_bit(tiny, make_jobs):
    """Padded on the right, the logits are those of the network's own forward, bit for bit."""
    jobs = make_jobs()
    tokens = [[5, 6, 7], [8], [9, 10], [3], [40] * 12, [2]]
    for batch, logits in forced(tiny, jobs, tokens, Steering(), 4, whole=True):
        texts = [tiny.encode(jobs[i].chat) + tokens[i][:-1] for i in batch]
        ids = torch.zeros((len(batch), max(map(len, texts))), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
        with torch.no_grad():
            expected = tiny.net(ids).logits
        for row, i in enumerate(batch):
            end, n = len(texts[row]), len(tokens[i])
            assert torch.equal(logits[row, -n:], expected[row, end - n : end])


def test_the_sum_over_answers_is_the_probability_of_a_sample(llama, make_jobs, answer):
    """Drawn answers of one token come as often as their density says."""
    jobs = make_jobs(tuple(["hello"] * 2000), budget=1)
    drawn = [d.tokens[0] for d in answer(llama, jobs, LOGITS["by_prompt"], batch_rows=2000)]
    top = max(set(drawn), key=drawn.count)
    (value,) = logprobs(llama, jobs[:1], [[top]], LOGITS["by_prompt"])
    p = float(value.exp())
    assert drawn.count(top) / 2000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 2000))


# ------------------------------------------------------------- divergence


def test_an_empty_steering_has_not_moved(llama, make_jobs):
    """The divergence of nothing is zero, and so is that of an edit of zero."""
    jobs = make_jobs()
    tokens = [[5, 6, 7]] * len(jobs)
    zero = Steering(hidden=(HiddenEdit(Site.layer(0), lambda h, s: h * 1.0),))
    for steering in (Steering(), Steering(stop=("x",), noise="y"), zero):
        assert sequence_kl(llama, jobs, tokens, steering) == [0.0] * len(jobs)


def test_a_constant_bias_has_a_closed_form(llama, make_jobs):
    """Under a fixed bias b the divergence of a step is E_p[b] - log E_q[exp b]."""
    jobs = make_jobs()
    tokens = [[5, 6, 7], [8], [9, 10], [], [40] * 9, [2]]
    bias = tilt(llama.vocabulary)
    found = sequence_kl(
        llama, jobs, tokens, Steering(logits=(lambda z, s: z + bias,)), batch_rows=4
    )
    for job, ids, kl in zip(jobs, tokens, found, strict=True):
        prompt, expected = llama.encode(job.chat), 0.0
        with torch.no_grad():
            table = llama.net(torch.tensor([prompt + ids])).logits[0].double().log_softmax(-1)
        for t in range(len(ids)):
            q = table[len(prompt) - 1 + t]
            p = (q + bias).log_softmax(-1)
            expected += float((p.exp() * bias).sum() - (q + bias).logsumexp(-1))
        assert kl == pytest.approx(expected, abs=1e-3)
        assert (kl > 0.1) == bool(ids)


def test_a_hidden_edit_equals_a_computation_by_hand(tiny, architecture, make_jobs):
    """The divergence of an edit after the final norm is that of two heads applied by hand."""
    jobs = make_jobs(("a", "hello there"))
    tokens = [[5, 6, 7], [9, 10]]
    steering = Steering(hidden=(HiddenEdit(Site.final(), after_prompt(add)),))
    found = sequence_kl(tiny, jobs, tokens, steering)
    for job, ids, kl in zip(jobs, tokens, found, strict=True):
        prompt, expected = tiny.encode(job.chat), 0.0
        with torch.no_grad():
            out = tiny.net(torch.tensor([prompt + ids]), output_hidden_states=True)
            head = tiny.net.get_output_embeddings()
            for t in range(1, len(ids)):  # the first draw is made at the prompt's last token
                h = out.hidden_states[-1][0, len(prompt) - 1 + t]
                q, p = head(h).log_softmax(-1), head(h + FLAT).log_softmax(-1)
                expected += float((p.exp() * (p - q)).sum())
        assert kl == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_base_model_reads_the_conversation_without_prompt_edits(llama, make_jobs):
    """The divergence of a prompt edit is taken from the model that was not prompted."""
    jobs = make_jobs(("a", "hello there"))
    tokens = [[5, 6, 7], [9, 10]]
    edit = Steering(prompt=(lambda chats: [c.with_system("Be brief.") for c in chats],))
    found = sequence_kl(llama, jobs, tokens, edit)
    for job, ids, kl in zip(jobs, tokens, found, strict=True):
        tables = []
        for chat in (job.chat.with_system("Be brief."), job.chat):
            prompt = llama.encode(chat)
            with torch.no_grad():
                logits = llama.net(torch.tensor([prompt + ids])).logits[0]
            tables.append(logits[len(prompt) - 1 : -1].log_softmax(-1))
        p, q = tables
        assert kl == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-3, abs=1e-4)
        assert kl > 1e-3


def test_weights_are_off_for_the_base_model(llama, make_jobs):
    """A change of weights moves the steered side only, and is undone between batches."""
    head = llama.net.get_output_embeddings().weight
    before = head.clone()

    @contextmanager
    def weights():
        head.data.mul_(1.5)
        try:
            yield
        finally:
            head.data.copy_(before)

    jobs = make_jobs()
    tokens = [[5, 6, 7]] * len(jobs)
    steering = Steering(weights=weights)
    scaled = Steering(logits=(lambda z, s: 1.5 * z,))
    found = sequence_kl(llama, jobs, tokens, steering, batch_rows=4)
    assert found == pytest.approx(sequence_kl(llama, jobs, tokens, scaled), rel=1e-3)
    assert min(found) > 0.1
    assert torch.equal(head, before)
    with pytest.raises(PlumblineError):
        logprobs(llama, jobs, tokens, steering + Steering(logits=(lambda z, s: z[:, :5],)))
    assert torch.equal(head, before)


def test_ruled_out_tokens_cost_no_nan(llama, make_jobs):
    """Tokens set to minus infinity leave a finite divergence: -log of the mass kept."""
    jobs = make_jobs(("a",))

    def half(logits, step):
        out = logits.clone()
        out[:, ::2] = float("-inf")
        return out

    with torch.no_grad():
        q = llama.net(torch.tensor([llama.encode(jobs[0].chat)])).logits[0, -1].softmax(-1)
    (kl,) = sequence_kl(llama, jobs, [[5]], Steering(logits=(half,)))
    assert kl == pytest.approx(-math.log(float(q[1::2].sum())), rel=1e-3)
    (value,) = logprobs(llama, jobs, [[4]], Steering(logits=(half,)))
    assert float(value[0]) == -math.inf


def test_a_search_and_private_luck_have_no_density(llama, make_jobs):
    """A search, and an edit that draws numbers of its own, are refused by name."""
    jobs = make_jobs(("a",))
    search = Steering(search=Search(2, lambda rows: torch.zeros(len(rows))))
    for compute in (logprobs, sequence_kl):
        with pytest.raises(NoDensity, match="search"):
            compute(llama, jobs, [[5]], search)
    lucky = Steering(logits=(lambda z, s: z + s.rows.uniform("mine")[:, None],))
    with pytest.raises(NoDensity, match="random numbers of its own"):
        logprobs(llama, jobs, [[5]], lucky)


def test_forced_logits_that_are_nan_are_refused(llama, make_jobs):
    """A density of NaN is an error that names the prompt, as it is while decoding."""
    nan = Steering(logits=(lambda z, s: z * float("nan"),))
    for compute in (logprobs, sequence_kl):
        with pytest.raises(PlumblineError, match=r"prompt p0"):
            compute(llama, make_jobs(("a",)), [[5]], nan)


def test_teacher_forcing_leaves_gradients_as_they_were(llama, make_jobs):
    """Gradients are on again for the caller after a density was computed."""
    sequence_kl(llama, make_jobs(("a",)), [[5]], LOGITS["by_index"])
    assert torch.is_grad_enabled()


def score(rows):
    """Score nothing."""
    return torch.zeros(len(rows))


@pytest.mark.parametrize(
    ("search", "tokens", "expected"),
    [
        (Search(1, score), 10, 0.0),
        (Search(4, score), 10, math.log(4) - 3 / 4),
        (Search(4, score, choose=lambda s, r: s), 10, math.log(4)),
        (Search(4, score, 5), 10, 2 * (math.log(4) - 3 / 4)),
        (Search(4, score, 5), 11, 3 * (math.log(4) - 3 / 4)),
        (Search(4, score, 5), 1, math.log(4) - 3 / 4),
        (Search(4, score, (2, 8)), 10, 3 * (math.log(4) - 3 / 4)),
        (Search(4, score, (2, 8)), 8, 2 * (math.log(4) - 3 / 4)),
        (Search(4, score, 5, select=lambda s, r: s), 10, None),
        (Search(4, score, 5, choose=lambda s, r: s), 10, None),
    ],
)
def test_the_bound_of_a_search(search, tokens, expected):
    """Best-of-N moves log N - (N - 1)/N at most, once per selection; a rule of its own log N."""
    found = search_bound(search, tokens)
    assert found == (None if expected is None else pytest.approx(expected))


def test_decoding_and_forcing_count_alike(llama, make_jobs):
    """A forced answer is as many tokens as a drawn one: prompt and answer less its last token."""
    jobs = make_jobs()
    drawn = {d.job: d for batch in decode(llama, jobs) for d in batch}
    spent = dict(llama.ledger.tokens)["policy"]
    logprobs(llama, jobs, [drawn[i].tokens for i in range(len(jobs))])
    assert llama.ledger.tokens["policy"] == 2 * spent
