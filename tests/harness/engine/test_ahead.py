"""K3, K6: looking ahead equals reading every candidate anew, and costs one call a token."""

import pytest
import torch

from harness.engine.density import logprobs, sequence_kl
from harness.engine.sampling import draw, uniforms
from harness.engine.steering import HiddenEdit, Search, Site, Steering, at_last
from harness.engine.tilting import Lookahead, TokenRule, guided
from harness.errors import PlumblineError
from harness.ledger import Ledger

W = torch.randn(32, generator=torch.Generator().manual_seed(5))
RULE = TokenRule(2.0, k=5)


def value(states):
    """Any function of the states will do."""
    return (states @ W).tanh()


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


def final(model, ids):
    """Give the states that the lm_head reads, of a text read whole."""
    return model.net.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]


def slow(model, rule=RULE):
    """Read [s, z] from its first token for every candidate: no cache, no packing."""

    def bonus(step, candidates):
        out = torch.zeros(candidates.shape)
        prompts, masks = step.rows.prompt_ids, step.rows.prompt_mask
        for row, drawn in enumerate(step.rows.tokens()):
            origin = int(step.rows.origin[row])
            prompt = prompts[origin][masks[origin]].tolist()
            for i, z in enumerate(candidates[row].tolist()):
                out[row, i] = value(final(model, [*prompt, *drawn, z])[-1])
        return out

    return Steering(logits=(guided(rule, bonus),))


def fast(rule=RULE):
    """Look ahead."""
    return Steering(lookahead=Lookahead(rule, value))


@pytest.mark.parametrize("batch_rows", [64, 4, 1])
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_looking_ahead_equals_reading_every_candidate(
    llama, batch_rows, temperature, make_jobs, answer
):
    """The fused pass draws the tokens that the slow way draws, in batches of any size."""
    jobs = make_jobs(budget=9, temperature=temperature)
    found = tokens(answer(llama, jobs, fast(), batch_rows=batch_rows))
    assert found == tokens(answer(llama, jobs, slow(llama)))
    assert found != tokens(answer(llama, jobs))


def test_looking_ahead_equals_a_loop_written_out_by_hand(llama, make_jobs, answer):
    """p(z|s) exp(strength V([s, z])) over the candidates, drawn by the row's own luck."""
    jobs = make_jobs(budget=6)
    found = answer(llama, jobs, fast())
    with torch.no_grad():
        for job, d in zip(jobs, found, strict=True):
            ids, luck = llama.encode(job.chat), uniforms((0, job.id, 0, 0), 6)
            for t, token in enumerate(d.tokens):
                log_p = llama.net(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
                scores = torch.full_like(log_p, float("-inf"))
                for z in log_p.topk(5).indices.tolist():
                    scores[z] = log_p[z] + 2.0 * value(final(llama, [*ids, z])[-1])
                assert int(draw(scores[None], torch.tensor([luck[t]]))) == token
                ids.append(token)


def test_one_call_of_k_tokens_a_token(make_model, make_jobs, answer):
    """The policy is called once a token and reads k tokens a row; each answer's cost says so."""
    model, ledger = make_model("llama", ends=False), Ledger()
    jobs = make_jobs(budget=7)
    with model.metered(ledger):
        found = answer(model, jobs, fast())
    prompts = [len(model.encode(j.chat)) for j in jobs]
    assert ledger.forwards["policy"] == 1 + 7
    assert ledger.tokens["policy"] == sum(prompts) + 7 * 5 * len(jobs)
    assert [d.cost["policy"] for d in found] == [n + 7 * 5 for n in prompts]


def test_edits_of_hidden_states_apply_to_candidates(llama, make_jobs, answer):
    """A left neighbour's edit of hidden states is in the states that candidates lead to."""
    push = 0.5 * torch.randn(32, generator=torch.Generator().manual_seed(1))
    edit = Steering(hidden=(HiddenEdit(Site.layer(1), at_last(lambda h, s: h + push)),))
    jobs = make_jobs(budget=6)
    steered = answer(llama, jobs, edit + fast())
    assert tokens(steered) != tokens(answer(llama, jobs, fast()))
    for job, d, lp in zip(
        jobs, steered, logprobs(llama, jobs, tokens(steered), edit + fast()), strict=True
    ):
        assert torch.isfinite(lp).all(), (job.id, d.tokens)


def test_the_density_is_that_of_the_loop(llama, make_jobs, answer):
    """Teacher forcing gives the probabilities that the slow way's edit gives."""
    jobs = make_jobs(budget=8)
    drawn = tokens(answer(llama, jobs, fast()))
    for batch_rows in (64, 2):
        ours = logprobs(llama, jobs, drawn, fast(), batch_rows=batch_rows)
        theirs = logprobs(llama, jobs, drawn, slow(llama), batch_rows=batch_rows)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, atol=1e-4)
    assert sequence_kl(llama, jobs, drawn, fast()) == pytest.approx(
        sequence_kl(llama, jobs, drawn, slow(llama)), abs=1e-3
    )


def test_no_strength_and_no_truncation_is_the_model(llama, make_jobs, answer):
    """At strength 0 over the whole vocabulary nothing changes; over k tokens it is top-k."""
    jobs = make_jobs()
    assert tokens(answer(llama, jobs, fast(TokenRule(0.0)))) == tokens(answer(llama, jobs))
    assert tokens(answer(llama, jobs, fast(TokenRule(0.0, 7)))) == tokens(
        answer(llama, make_jobs(top_k=7))
    )
    assert tokens(answer(llama, jobs, fast(TokenRule(0.0, 7, greedy=True)))) == tokens(
        answer(llama, make_jobs(temperature=0))
    )


def test_looking_ahead_goes_with_a_search(llama, make_jobs, answer):
    """Forks of a row carry what was looked at: candidate 0 of several is the plain answer."""
    jobs = make_jobs(budget=6)
    first = Steering(search=Search(4, lambda rows: -rows.slot.double()))
    assert tokens(answer(llama, jobs, fast() + first)) == tokens(answer(llama, jobs, fast()))
    blocks = Steering(search=Search(3, lambda rows: rows.ids.sum(-1).double(), blocks=2))
    assert tokens(answer(llama, jobs, fast() + blocks)) == tokens(
        answer(llama, jobs, slow(llama) + blocks)
    )


def test_a_search_that_reads_meets_the_state_after_the_last_token(llama, make_jobs, answer):
    """With ``reads`` a score meets V([s, block]); without, the state that drew the last token."""
    seen = []

    def score(rows):
        seen.append((rows.hidden.clone(), rows.tokens(), rows.asked()))
        return rows.ids.sum(-1).double()

    jobs = make_jobs(budget=7)
    ends = Steering(logits=(lambda z, s: z + 4 * (torch.arange(z.shape[-1]) == 2),))
    reading = Search(3, score, blocks=2, reads=True)
    plain = Search(3, lambda rows: rows.ids.sum(-1).double(), blocks=2)
    assert tokens(answer(llama, jobs, ends + Steering(search=reading))) == tokens(
        answer(llama, jobs, ends + Steering(search=plain))
    )
    with torch.no_grad():
        for hidden, drawn, asked in seen:
            for row, ids in enumerate(drawn):
                text = [*llama.encode(asked[row]), *ids]
                assert torch.allclose(hidden[row], final(llama, text)[-1], atol=1e-4)
    assert any(2 in ids for _, drawn, _ in seen for ids in drawn)  # some ended early


def test_reading_costs_one_call_more(make_model, make_jobs, answer):
    """A block search that reads pushes each candidate's last token through, and counts it."""
    model = make_model("llama", ends=False)
    ledgers = {}
    for reads in (False, True):
        ledgers[reads] = Ledger()
        search = Search(3, lambda rows: rows.ids.sum(-1).double(), blocks=2, reads=reads)
        with model.metered(ledgers[reads]):
            found = answer(model, make_jobs(budget=6), Steering(search=search))
        assert sum(d.cost["policy"] for d in found) == ledgers[reads].tokens["policy"]
    assert ledgers[True].forwards["policy"] == ledgers[False].forwards["policy"] + 1


def test_two_lookaheads_are_refused():
    """There is one next token to look at."""
    with pytest.raises(PlumblineError, match="two methods in the stack look ahead"):
        fast() + fast()


def test_what_cannot_look_ahead_says_so(make_model, make_jobs, answer):
    """Windows in the attention and too many candidates each give one clear line."""
    with pytest.raises(PlumblineError, match="every layer attends to all"):
        answer(make_model("mistral-window"), make_jobs(), fast())
    with pytest.raises(PlumblineError, match="k is 5000, and the model's vocabulary has"):
        answer(make_model("llama"), make_jobs(), fast(TokenRule(1.0, 5000)))


@pytest.mark.parametrize("architecture", ["qwen2", "gemma", "gpt2", "gpt_neox", "phi"])
def test_every_plain_architecture_looks_ahead(architecture, make_model, make_jobs, answer):
    """The fused pass equals the slow way on other architectures."""
    model, jobs = make_model(architecture), make_jobs(budget=5)
    assert tokens(answer(model, jobs, fast())) == tokens(answer(model, jobs, slow(model)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"k": -1}, "k is -1; it must be 0"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
    ],
)
def test_a_bad_rule_is_refused(bad, message):
    """Candidates and temperature have bounds."""
    with pytest.raises(PlumblineError, match=message):
        TokenRule(1.0, **bad)
