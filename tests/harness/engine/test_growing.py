"""Rewards of rows that a search looks at now and again, and searches that only reject."""

import math

import pytest
import torch

from harness.engine.density import search_bound
from harness.engine.prefixes import Growing
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger


def tokens(found):
    """Give what was drawn."""
    return [d.tokens for d in found]


def closed(judge, model, chat, ids):
    """Read an unfinished answer whole: its own ids, then the words that close an answer."""
    opened = judge.tokenizer(
        judge.template.render(chat), add_special_tokens=judge.template.bos
    ).input_ids
    closing = judge.template.render(chat.assistant("|")).rpartition("|")[2]
    suffix = judge.tokenizer(closing, add_special_tokens=False).input_ids
    with torch.no_grad():
        return float(judge.net(input_ids=torch.tensor([[*opened, *ids, *suffix]])).logits)


@pytest.mark.parametrize("forks", [True, False])
@pytest.mark.parametrize("template", ["human-assistant", "vicuna", "tokenizer"])
def test_read_on_is_read_whole(llama, forks, template, make_jobs, make_reward, answer):
    """Whatever was rejected or forked in between, a row's reward is that of its whole text."""
    judge, compared = make_reward(template=template, max_length=400), []
    growing = judge.of_growing(llama)
    assert isinstance(growing, Growing)

    def score(rows):
        found = growing(rows)
        for i, (chat, ids) in enumerate(zip(rows.asked(), rows.tokens(), strict=True)):
            expected = (
                float(judge.score([chat], [rows.texts()[i]])[0])
                if bool(rows.finished[i])
                else closed(judge, llama, chat, ids)
            )
            assert float(found[i]) == pytest.approx(expected, abs=1e-5)
            compared.append(i)
        return found

    def half(scores, rows):
        order = scores.argsort(descending=True).tolist()
        return torch.tensor(
            [
                i
                for p in set(rows.origin.tolist())
                for i in [j for j in order if rows.origin[j] == p][:2]
            ]
        )

    search = Search(4, score, blocks=(3, 5, 8), select=None if forks else half, forks=forks)
    answer(llama, make_jobs(budget=12), Steering(search=search), batch_rows=8)
    assert len(compared) >= 60


def test_nothing_is_read_twice(make_model, make_jobs, make_reward, answer):
    """Prompts are read once, each new token once, and finished answers once at the end."""
    model, judge, ledger = make_model("llama", ends=False), make_reward(), Ledger()
    jobs, growing = make_jobs(budget=12), judge.of_growing(model)
    search = Search(
        4, growing, blocks=(4, 8), select=lambda s, rows: torch.arange(len(rows)), forks=False
    )
    with judge.metered(ledger):
        found = answer(model, jobs, Steering(search=search))
    assert len(growing.held) == 0
    suffix = len(growing.tokens.suffix)
    prompts = sum(len(growing.tokens.reader.opened(job.chat)) for job in jobs)
    rows = 4 * len(jobs)
    before_the_end = prompts + rows * (8 + 2 * suffix)
    last = ledger.tokens["reward"] - before_the_end
    assert len(found) == len(jobs)
    assert 0 < last <= sum(4 * len(judge.encode(j.chat, "x" * 60)) for j in jobs)


def test_another_tokenizer_is_scored_whole(llama, make_reward):
    """Where ids mean something else the text is scored as a text."""
    judge = make_reward(kind="pieces")
    assert judge.of_growing(llama) == judge.of_rows


def test_what_is_not_rejected_keeps_its_luck(llama, make_jobs, answer):
    """Survivors end as the same candidates of best-of-n would."""

    def odd(scores, rows):
        return (rows.finished | (rows.slot % 2 == 1)).nonzero().flatten()

    def first(rows):
        return rows.slot.double()

    jobs = make_jobs()
    pool = answer(llama, jobs, Steering(search=Search(6, first)))
    kept = answer(llama, jobs, Steering(search=Search(6, first, (2,), odd, forks=False)))
    assert tokens(kept) == [d.pool[5].tokens for d in pool]


def test_a_search_that_does_not_fork_may_not_repeat_a_row(llama, make_jobs, answer):
    """What says that it only rejects is held to it."""

    def twice(scores, rows):
        return torch.arange(len(rows)).repeat_interleave(2)[: len(rows)]

    search = Search(4, lambda rows: rows.slot.double(), (2,), twice, forks=False)
    with pytest.raises(PlumblineError, match="kept more than its width of 4"):
        answer(llama, make_jobs(("hi",)), Steering(search=search))


def test_rejecting_alone_is_bounded_by_the_number_of_draws():
    """One of n independent draws is at most n times as likely: KL <= log n."""
    search = Search(8, lambda rows: rows.slot, (4,), lambda s, r: s, forks=False)
    assert search_bound(search, 40) == pytest.approx(math.log(8))
