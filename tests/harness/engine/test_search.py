"""Candidates: best-of-N, block search, and rules of a search's own."""

import hashlib

import pytest
import torch

from harness.engine.sampling import Sampling
from harness.engine.steering import HiddenEdit, Search, Site, Steering, at_last
from harness.errors import PlumblineError


def number(text):
    """Give a text's own number in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


def words(rows):
    """Score rows by their words."""
    return torch.tensor([number(text) for text in rows.texts()], dtype=torch.float64)


def tokens(found):
    """Give the answers' tokens."""
    return [d.tokens for d in found]


def test_candidate_zero_of_best_of_n_is_the_plain_sample(tiny, make_jobs, answer):
    """The first candidate is the plain sample, and the others differ from it."""
    jobs = make_jobs()
    edit = Steering(hidden=(HiddenEdit(Site.mlp(-1), at_last(lambda h, s: h + 1)),))
    plain = tokens(answer(tiny, jobs, edit))
    found = answer(tiny, jobs, edit + Steering(search=Search(4, words)), batch_rows=8)
    for d, expected in zip(found, plain, strict=True):
        assert d.pool[0].tokens == expected
        assert len(d.pool) == 4
        assert len({c.tokens for c in d.pool}) > 1


def test_best_of_n_answers_with_the_best_candidate(llama, make_jobs, answer):
    """The answer is the candidate of the highest score, and the pool says so."""
    jobs = make_jobs()
    for d in answer(llama, jobs, Steering(search=Search(5, words))):
        best = max(d.pool, key=lambda c: c.score)
        assert (d.tokens, d.text) == (best.tokens, best.text)
        assert best.score == pytest.approx(number(best.text))


def test_more_candidates_only_add_candidates(llama, make_jobs, answer):
    """The first candidates of a wide search are those of a narrow one."""
    jobs = make_jobs()
    wide = answer(llama, jobs, Steering(search=Search(6, words)))
    narrow = answer(llama, jobs, Steering(search=Search(3, words)), batch_rows=6)
    for w, n in zip(wide, narrow, strict=True):
        assert [c.tokens for c in w.pool[:3]] == [c.tokens for c in n.pool]


def test_ties_go_to_the_first_candidate(llama, make_jobs, answer):
    """A constant score answers with the plain sample."""
    jobs = make_jobs()
    constant = Steering(search=Search(4, lambda rows: torch.zeros(len(rows))))
    assert tokens(answer(llama, jobs, constant)) == tokens(answer(llama, jobs))


def test_block_search_of_one_candidate_is_plain_sampling(tiny, make_jobs, answer):
    """Selecting among one candidate changes nothing."""
    jobs = make_jobs()
    search = Steering(search=Search(1, words, blocks=3))
    assert tokens(answer(tiny, jobs, search)) == tokens(answer(tiny, jobs))


@pytest.mark.parametrize("blocks", [10, 25, (10,), ()])
def test_blocks_as_long_as_the_budget_are_best_of_n(llama, blocks, make_jobs, answer):
    """One block of the whole budget chooses as best-of-N does."""
    jobs = make_jobs()
    whole = answer(llama, jobs, Steering(search=Search(4, words)))
    assert tokens(answer(llama, jobs, Steering(search=Search(4, words, blocks=blocks)))) == tokens(
        whole
    )


def test_block_search_equals_a_search_written_out_by_hand(llama, make_jobs, answer):
    """Best-of-K per block equals drawing each block afresh from its kept prefix."""
    from harness.engine.sampling import draw, uniforms

    width, block, budget = 3, 4, 11
    jobs = make_jobs(budget=budget)
    steering = Steering(search=Search(width, words, blocks=block))
    found = answer(llama, jobs, steering, batch_rows=9)

    def extend(ids, luck, upto):
        ids = list(ids)
        while len(ids) < upto and not (ids and ids[-1] in llama.ends):
            whole = torch.tensor([prompt + ids])
            logits = llama.net(whole).logits[:, -1].float()
            ids.append(int(draw(logits, torch.tensor([luck[len(ids)]]))))
        return ids

    with torch.no_grad():
        for job, d in zip(jobs, found, strict=True):
            prompt, kept = llama.encode(job.chat), []
            streams = [uniforms((0, job.id, 0, slot), budget) for slot in range(width)]
            for upto in (4, 8, 11):
                if kept and kept[-1] in llama.ends:
                    break
                drawn = [extend(kept, luck, upto) for luck in streams]
                kept = max(drawn, key=lambda ids: number(llama.text(ids).strip()))
            assert d.tokens == tuple(kept)


def test_forks_of_a_block_do_not_share_their_luck(llama, make_jobs, answer):
    """After a fork the copies of one candidate go different ways."""
    seen = []

    def score(rows):
        seen.append({tuple(ids) for ids in rows.tokens()})
        return words(rows)

    answer(llama, make_jobs(("hello",)), Steering(search=Search(4, score, blocks=5)))
    assert len(seen) == 2
    assert len(seen[1]) == 4
    assert len({ids[:5] for ids in seen[1]}) == 1


def test_greedy_search_draws_its_candidates_at_temperature_one(llama, make_jobs, answer):
    """A search over a greedy job samples; ``search_sampling`` says otherwise."""
    greedy, sampled = make_jobs(temperature=0), make_jobs()
    steering = Steering(search=Search(3, words))
    assert tokens(answer(llama, greedy, steering)) == tokens(answer(llama, sampled, steering))
    cold = answer(llama, greedy, steering, search_sampling=Sampling(0.0, max_new_tokens=99))
    assert tokens(cold) == tokens(answer(llama, greedy))
    assert len({c.tokens for c in cold[0].pool}) == 1


def test_a_search_may_select_and_choose_by_rules_of_its_own(llama, make_jobs, answer):
    """``select`` names the rows that go on, ``choose`` the answers."""
    jobs = make_jobs(budget=6)

    def first(scores, rows):
        return (rows.slot == 0).nonzero().flatten()

    def last(scores, rows):
        at = {int(o): i for i, o in enumerate(rows.origin)}
        return torch.tensor([at[o] for o in sorted(at)])

    keep = Search(4, words, blocks=2, select=first, choose=last)
    assert tokens(answer(llama, jobs, Steering(search=keep))) == tokens(answer(llama, jobs))


def test_selecting_a_row_twice_forks_it(llama, make_jobs, answer):
    """Rows named twice by ``select`` become two candidates of new luck."""
    sizes = []

    def double(scores, rows):
        return (rows.slot == 0).nonzero().flatten().repeat_interleave(2)

    def score(rows):
        sizes.append(len(rows))
        return words(rows)

    answer(llama, make_jobs(("a", "b")), Steering(search=Search(3, score, (2, 5), select=double)))
    assert sizes == [6, 4, 4]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (Search(2, lambda r: torch.zeros(len(r), 1)), r"one number for each of 12 rows"),
        (
            Search(2, lambda r: torch.full((len(r),), float("nan"))),
            r"prompt p\d: the search's score is NaN",
        ),
        (
            Search(2, words, 2, select=lambda s, r: torch.arange(len(r)).repeat_interleave(3)),
            r"more than its width of 2",
        ),
        (
            Search(2, words, 2, select=lambda s, r: (r.origin != 0).nonzero().flatten()),
            r"prompt p\d: the search kept no candidate",
        ),
        (
            Search(2, words, choose=lambda s, r: torch.tensor([0])),
            r"a search chose 1 answers; it must choose one for each of 6 prompts",
        ),
    ],
    ids=["shape", "nan", "wide", "dropped", "choice"],
)
def test_a_search_that_breaks_its_contract_is_refused(llama, search, message, make_jobs, answer):
    """Wrong shapes, NaN scores, too many or too few survivors each give one clear line."""
    with pytest.raises(PlumblineError, match=message):
        answer(llama, make_jobs(), Steering(search=search))


def test_minus_infinity_is_a_score(llama, make_jobs, answer):
    """A candidate may be ruled out by a score of minus infinity."""

    def score(rows):
        return torch.where(rows.slot == 2, 0.0, float("-inf"))

    for d in answer(llama, make_jobs(), Steering(search=Search(4, score))):
        assert d.tokens == d.pool[2].tokens
