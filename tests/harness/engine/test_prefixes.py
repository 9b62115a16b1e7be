"""K2 to K5: rewards of partial answers equal full re-scoring, whatever the tokenizer."""

import itertools

import pytest
import torch

from harness.chat import Chat
from harness.engine.prefixes import OtherTokens, SameTokens, Whole, same_tokens
from harness.engine.rows import Step
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger


def spy(scorer, seen):
    """Make a logits edit that notes the rewards of the five likeliest candidates."""

    def edit(logits, step):
        found = logits.topk(5).indices
        seen.append((step, found, scorer(step, found), step.rows.tokens(), step.rows.asked()))
        return logits

    return Steering(logits=(edit,))


def rescored(judge, model, chat, drawn, z):
    """Read the whole text from its first token, ids as they were drawn."""
    open_ids = judge.tokenizer(
        judge.template.render(chat), add_special_tokens=judge.template.bos
    ).input_ids
    closing = judge.template.render(chat.assistant("|")).rpartition("|")[2]
    suffix = judge.tokenizer(closing, add_special_tokens=False).input_ids
    text = [*open_ids, *drawn, *([] if z in model.ends else [z]), *suffix]
    return float(judge.net(input_ids=torch.tensor([text])).logits.float())


@pytest.mark.parametrize("template", ["human-assistant", "vicuna", "tokenizer"])
@pytest.mark.parametrize("batch_rows", [64, 2])
def test_cached_rewards_equal_full_rescoring(
    llama, template, batch_rows, make_jobs, make_reward, answer
):
    """Every candidate's reward is that of the text read whole, closed as the template does."""
    judge, seen = make_reward(template=template), []
    scorer = judge.of_candidates(llama)
    assert isinstance(scorer, SameTokens)
    answer(llama, make_jobs(budget=6), spy(scorer, seen), batch_rows=batch_rows)
    compared = 0
    with torch.no_grad():
        for step, found, rewards, drawn, chats in seen:
            for row, i in itertools.product(range(len(drawn)), range(5)):
                if bool(step.real[row, -1]):
                    expected = rescored(judge, llama, chats[row], drawn[row], int(found[row, i]))
                    assert float(rewards[row, i]) == pytest.approx(expected, abs=1e-5)
                    compared += 1
    assert compared > 100


def test_an_end_token_is_scored_as_the_finished_answer(make_model, make_jobs, make_reward, answer):
    """With a closing mark or without, [s, end] has the reward of the answer as it stands."""
    model, ends = make_model("llama"), torch.tensor([2])
    for template in ("human-assistant", "vicuna"):
        judge, seen = make_reward(template=template), []
        scorer = judge.of_candidates(model)

        def edit(logits, step, scorer=scorer, seen=seen):
            found = torch.cat([ends.expand(len(logits), 1), logits.topk(3).indices], dim=1)
            seen.append((scorer(step, found), step.rows.tokens(), step.rows.asked()))
            out = logits.clone()
            out[:, 2] = float("-inf")
            return out

        answer(model, make_jobs(budget=4), Steering(logits=(edit,)))
        with torch.no_grad():
            for rewards, drawn, chats in seen:
                for row, (ids, chat) in enumerate(zip(drawn, chats, strict=True)):
                    expected = rescored(judge, model, chat, ids, 2)
                    assert float(rewards[row, 0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_retokenized_rewards_equal_the_reward_models_own(
    llama, kind, make_jobs, make_reward, answer
):
    """With any tokenizer, what shares a head is read once and scored as the text is."""
    judge, seen = make_reward(kind=kind), []
    scorer = OtherTokens(judge)
    answer(llama, make_jobs(budget=5), spy(scorer, seen), batch_rows=4)
    compared = 0
    for step, found, rewards, drawn, chats in seen:
        for row, i in itertools.product(range(len(drawn)), range(5)):
            if bool(step.real[row, -1]):
                text = step.rows.decode_text([*drawn[row], int(found[row, i])])
                expected = judge.score([chats[row]], [text])[0]
                assert float(rewards[row, i]) == pytest.approx(expected, abs=2e-5)
                compared += 1
    assert compared > 60


def test_the_reading_follows_from_the_tokenizer_and_the_network(make_model, make_reward):
    """Same ids are fed; another tokenizer is re-read; windows and encoders are scored whole."""
    model = make_model("llama")
    assert isinstance(make_reward().of_candidates(model), SameTokens)
    assert isinstance(make_reward(kind="pieces").of_candidates(model), OtherTokens)
    assert isinstance(make_reward("mistral-window").of_candidates(model), Whole)
    assert not same_tokens(make_reward(kind="pieces").tokenizer, model.tokenizer)


def test_scoring_whole_texts_is_the_same_reward(llama, make_jobs, make_reward, answer):
    """The slow way for networks that cannot be packed gives what the fast ways give."""
    judge, one, other = make_reward(), [], []
    jobs = make_jobs(budget=4)
    answer(llama, jobs, spy(Whole(judge), one))
    answer(llama, jobs, spy(OtherTokens(judge), other))
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a[2].double(), b[2].double(), atol=2e-5)


def test_only_new_tokens_are_read(make_model, make_jobs, make_reward, answer):
    """The reward model reads each prompt once and k tokens a step, in one call a step."""
    model, judge, budget = make_model("llama", ends=False), make_reward(), 7
    jobs = make_jobs(budget=budget)
    ledger, scorer = Ledger(), judge.of_candidates(model)

    def edit(logits, step):
        found = logits.topk(5).indices
        keep = torch.full_like(logits, float("-inf")).scatter(1, found, 0.0)
        scorer(step, found)
        return logits + keep

    with judge.metered(ledger):
        answer(model, jobs, Steering(logits=(edit,)))
    prompts = sum(len(judge.tokenizer(judge.template.render(j.chat)).input_ids) for j in jobs)
    assert ledger.forwards["reward"] == 1 + budget
    assert ledger.tokens["reward"] == prompts + 5 * budget * len(jobs)


def test_candidates_of_a_search_share_the_reading_of_a_prompt(
    make_model, make_jobs, make_reward, answer
):
    """Eight answers to a prompt cost the reward model one reading of it."""
    model, judge = make_model("llama", ends=False), make_reward()
    ledger, seen = Ledger(), []
    steering = spy(judge.of_candidates(model), seen)
    search = Steering(search=Search(8, lambda rows: rows.slot.double()))
    with judge.metered(ledger):
        answer(model, make_jobs(("hello there",), budget=1), steering + search)
    prompt = len(judge.tokenizer(judge.template.render(Chat.of("hello there"))).input_ids)
    assert ledger.tokens["reward"] == prompt + 8 * 5


def test_a_drawn_token_that_was_no_candidate_is_read(llama, make_jobs, make_reward, answer):
    """Where another rule draws something else, the reading follows what was drawn."""
    judge, seen = make_reward(), []
    scorer = judge.of_candidates(llama)
    unlikely = Steering(logits=(lambda z, s: -z,))
    answer(llama, make_jobs(budget=5), spy(scorer, seen) + unlikely)
    with torch.no_grad():
        for step, found, rewards, drawn, chats in seen:
            for row in range(len(drawn)):
                if bool(step.real[row, -1]):
                    expected = rescored(judge, llama, chats[row], drawn[row], int(found[row, 0]))
                    assert float(rewards[row, 0]) == pytest.approx(expected, abs=1e-5)


def test_the_users_words_alone_are_read(llama, make_jobs, make_reward, answer):
    """A prompt edit changes what the policy reads and nothing of what the reward model reads."""
    judge, seen = make_reward(), []
    read = []
    plain = judge.tokenizer

    class Listening:
        def __call__(self, text, **options):
            read.append(text)
            return plain(text, **options)

        def __getattr__(self, name):
            return getattr(plain, name)

    judge.tokenizer = Listening()
    prompt = Steering(prompt=(lambda chats: [c.with_system("SECRET WORDS") for c in chats],))
    for scorer in (SameTokens(judge, llama), OtherTokens(judge), Whole(judge)):
        answer(llama, make_jobs(budget=2), prompt + spy(scorer, seen))
    assert len(read) > 10
    assert not any("SECRET" in text for text in read)
    assert any("hello there, how are you?" in text for text in read)


@pytest.mark.parametrize("way", [SameTokens, OtherTokens, Whole])
def test_a_text_too_long_for_the_reward_model_is_refused(
    way, llama, make_jobs, make_reward, answer
):
    """One clear line names the reward model, its limit, and the prompt."""
    judge = make_reward(max_length=20)
    scorer = way(judge, llama) if way is SameTokens else way(judge)
    with pytest.raises(PlumblineError, match=r"tiny reward reads 20 tokens, too few .* 'hello the"):
        answer(llama, make_jobs(("hello there, how are you?" * 2,), budget=3), spy(scorer, []))


def test_a_step_is_all_a_reward_may_know(llama, make_jobs, make_reward, answer):
    """Scoring the same candidates twice in a step gives the same numbers."""
    judge, scorer = make_reward(), None
    scorer = judge.of_candidates(llama)

    def edit(logits, step: Step):
        found = logits.topk(4).indices
        first = scorer(step, found)
        assert torch.allclose(first, scorer(step, found), atol=1e-6)
        assert torch.allclose(first.flip(1), scorer(step, found.flip(1)), atol=1e-5)
        return logits

    answer(llama, make_jobs(budget=5), Steering(logits=(edit,)))
