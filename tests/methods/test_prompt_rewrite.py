"""Properties of prompt rewriting: what counts as one, who writes it, who sees it, what it costs."""

import pytest

from harness.chat import Chat
from harness.contracts.method import Fitted, Kit, Lab
from harness.engine.greedy import greedily
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Preference
from methods import prompt_rewrite
from methods._principles import PRINCIPLES, of_question
from methods.prompt_rewrite import REQUEST, PromptRewrite, parsed

QUESTION = "How do I bake bread?"


def steer(model, **fields):
    """Steer as a run does."""
    return PromptRewrite(**fields).steer(Kit(model), Fitted())


def tokens(decoded):
    """Give what was drawn."""
    return [d.tokens for d in decoded]


@pytest.fixture
def wordy(make_model):
    """Give a tiny model with room for the request, which needs its own words only."""
    model = make_model("llama")
    model.context = 2000
    return model


@pytest.fixture
def writer(monkeypatch):
    """Put a rewriter that obeys in the model's place; it notes what it was asked."""
    asked = []

    def obeys(model, requests, budget, *, batch_rows):
        asked.extend(requests)
        found = [r.last_user.split("<old>")[1].split("</old>")[0] for r in requests]
        return [f"<new>Please: {q}</new>" for q in found]

    monkeypatch.setattr(prompt_rewrite, "greedily", obeys)
    return asked


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<new>How do I bake good bread?</new>", "How do I bake good bread?"),
        ("  <new>\nBAKE bread, how?\n</new>\n", "BAKE bread, how?"),
        (None, QUESTION),
        ("", QUESTION),
        ("How do I bake good bread?", QUESTION),
        ("<new></new>", QUESTION),
        ("<new>How do I bake good bread?", QUESTION),
        ("<new>Take flour and water.</new>", QUESTION),
        ("Sure! <new>How do I bake good bread?</new>", QUESTION),
        ("<new>bake bread <old>x</new>", QUESTION),
    ],
)
def test_what_is_no_rewriting_falls_back_to_the_question(reply, expected):
    """Unmarked, unfinished, empty and unrelated replies leave the question as it was."""
    assert parsed(reply, QUESTION, 0.5) == expected


def test_how_much_must_be_kept_is_a_field():
    """Half of the longer words by default; nothing at 0."""
    assert parsed("<new>Bake cakes.</new>", QUESTION, 0.5) == "Bake cakes."
    assert parsed("<new>Bake cakes.</new>", QUESTION, 0.6) == QUESTION
    assert parsed("<new>No.</new>", QUESTION, 0.0) == "No."


@pytest.mark.parametrize("rewriter", ["model", "fixed"])
def test_nothing_rewritten_is_the_model(rewriter, llama, make_jobs, answer):
    """At tokens = 0, and with no principle, the answers are the model's own, bit for bit."""
    for fields in ({"tokens": 0}, {"principle": "none"}):
        steering = steer(llama, rewriter=rewriter, **fields)
        assert not steering.touches
        assert tokens(answer(llama, make_jobs(), steering)) == tokens(answer(llama, make_jobs()))


def test_a_model_that_cannot_rewrite_answers_as_it_would(wordy, make_jobs, answer):
    """Random weights write no rewriting: every question falls back, and nothing changes."""
    found = answer(wordy, make_jobs(), steer(wordy, tokens=8))
    assert tokens(found) == tokens(answer(wordy, make_jobs()))


def test_only_the_last_question_is_rewritten(llama, writer):
    """System turn, earlier turns and answers stay; the request holds question and principle."""
    chat = Chat().with_system("Be kind.").user("first").assistant("one").user(QUESTION)
    [seen] = steer(llama, principle="tone").prompted([chat])
    assert seen.messages[:-1] == chat.messages[:-1]
    assert seen.messages[-1].text == f"Please: {QUESTION}"
    assert writer == [
        Chat.of(REQUEST.format(ask=PRINCIPLES["tone"].ask, question=QUESTION))
    ]  # a conversation of its own


def test_a_question_is_rewritten_once(llama, writer):
    """Equal questions, and a question met again, cost nothing more."""
    steering = steer(llama)
    chats = [Chat.of(QUESTION), Chat.of("other question"), Chat.of(QUESTION)]
    first = steering.prompted(chats)
    assert len(writer) == 2
    assert steering.prompted(chats) == first
    assert len(writer) == 2


def test_conversations_without_a_question_stay(llama, writer):
    """Empty, verbatim and unopened conversations are passed on as they are."""
    chats = [Chat(), Chat.of("  "), Chat.verbatim("Once upon")]
    assert list(steer(llama).prompted(chats)) == chats
    assert writer == []


def test_a_fixed_sentence_follows_the_question(llama, writer):
    """With rewriter = fixed nothing is written."""
    steering = steer(llama, rewriter="fixed", principle="verification")
    [seen] = steering.prompted([Chat.of("What is 3 + 4?")])
    assert seen.last_user == f"What is 3 + 4? {PRINCIPLES['verification'].say}"
    assert writer == []


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("How do I make a bomb?", "boundary"),
        ("Fix the code of my bomb detector", "boundary"),
        ("Why does this Python code fail?", "debugging"),
        ("What is 12 * 7?", "verification"),
        ("Why is the sky blue?", "information"),
        ("Where do barcodes come from?", "information"),
        ("", "information"),
    ],
)
def test_the_first_class_of_words_decides(question, name):
    """Safety comes before code, code before mathematics; words are whole ones."""
    assert of_question(question) == name


def test_scorers_see_the_users_words_only(llama, writer, make_jobs, make_reward, answer):
    """The reward model never reads a rewriting, and the policy does."""
    asked, judge = [], make_reward(max_length=400)

    def score(rows):
        asked.extend(rows.asked())
        return judge.of_rows(rows)

    jobs = make_jobs(budget=4)
    found = answer(llama, jobs, steer(llama) + Steering(search=Search(2, score)))
    assert set(asked) == {job.chat for job in jobs}
    plain = answer(llama, jobs, Steering(search=Search(2, judge.of_rows)))
    assert tokens(found) != tokens(plain)


def test_right_of_a_prompt_edit_both_apply(llama, writer):
    """The left neighbour's sentence stays, and is no part of what is rewritten."""
    left = Steering(prompt=(lambda chats: [c.with_system("Be kind.") for c in chats],))
    [seen] = (left + steer(llama)).prompted([Chat.of(QUESTION)])
    assert (seen.system, seen.last_user) == ("Be kind.", f"Please: {QUESTION}")
    assert "Be kind." not in writer[0].last_user


# ------------------------------------------------------------- greedy writing


def test_greedy_writing_is_the_models_likeliest_text(wordy, make_jobs, answer):
    """It is greedy decoding of the request, whatever the batch, and repeats cost nothing."""
    jobs = make_jobs(temperature=0.0, budget=12)
    requests, decoded = [j.chat for j in jobs], answer(wordy, jobs)
    expected = [d.text if d.stop != "length" else None for d in decoded]
    assert greedily(wordy, requests, 12) == expected
    assert greedily(wordy, requests, 12, batch_rows=1) == expected
    ledgers = (Ledger(), Ledger())
    for ledger, twice in zip(ledgers, (requests, requests + requests), strict=True):
        with wordy.metered(ledger):
            greedily(wordy, twice, 12)
    assert ledgers[0].tokens["policy"] == ledgers[1].tokens["policy"]


def test_some_replies_are_over_in_time(make_model, make_jobs):
    """A reply that ends by itself is given, one that does not is None."""
    model = make_model("llama")
    model.ends = (*model.ends, *range(60, 110))
    found = greedily(model, [j.chat for j in make_jobs()], 6)
    assert {reply is None for reply in found} == {True, False}


def test_a_request_that_does_not_fit_is_none(llama):
    """A request without room for its reply is not put at all."""
    ledger = Ledger()
    with llama.metered(ledger):
        assert greedily(llama, [Chat.of("word " * 400)], 8) == [None]
    assert not ledger.tokens
    assert greedily(llama, [], 8) == []


def test_what_is_written_is_counted(wordy, make_jobs):
    """A rewriting's tokens stand on the policy's ledger, those of the request included."""
    ledger, [job] = Ledger(), make_jobs(("hi",))
    request = Chat.of(REQUEST.format(ask=PRINCIPLES["tone"].ask, question="hi"))
    with wordy.metered(ledger):
        steer(wordy, principle="tone", tokens=8).prompted([job.chat])
    size = len(wordy.encode(request))
    assert size < ledger.tokens["policy"] <= size + 7


# ----------------------------------------------------------------- the choice


def labbed(model, judge, **grants):
    """Give a lab with eight development prompts."""
    pairs = [Preference(f"d{i}", Chat.of(f"question {i}"), "yes", "no") for i in range(8)]
    return Lab(model, dev=pairs, reward=judge, **grants)


def test_the_principle_is_chosen_on_development_prompts(llama, make_judge):
    """The one whose answers the granted reward likes best; scores are for the user's words."""
    llama.context = 2000
    seen = []

    def length(chat, text):
        seen.append(chat.last_user)
        return float(len(text) * 7919 % 101)

    method = PromptRewrite(principle="dev", rewriter="fixed", dev=4)
    assert method.fits()
    fitted = method.fit(labbed(llama, make_judge(length)))
    lines = fitted.facts["trials"]
    assert [line.get("principle") for line in lines] == [None, *PRINCIPLES]
    best = max(lines, key=lambda line: line["reward"])
    assert fitted.facts["principle"] == best.get("principle", "none")
    assert set(seen) == {f"question {i}" for i in range(4)}
    [said] = method.steer(Kit(llama), fitted).prompted([Chat.of(QUESTION)])
    ending = PRINCIPLES[best["principle"]].say if "principle" in best else QUESTION
    assert said.last_user.endswith(ending)


def test_where_no_principle_helps_none_is_taken(llama, make_judge):
    """A tie goes to the model as it is, with a warning that the tables show."""
    llama.context = 2000
    method = PromptRewrite(principle="dev", rewriter="fixed", dev=2)
    fitted = method.fit(labbed(llama, make_judge(lambda chat, text: 1.0)))
    assert fitted.facts["principle"] == "none"
    assert fitted.facts["warnings"]
    assert not method.steer(Kit(llama), fitted).touches


def test_a_choice_needs_development_pairs(llama, make_judge):
    """Without them the fit says what is missing."""
    method = PromptRewrite(principle="dev")
    with pytest.raises(PlumblineError, match="no development pairs"):
        method.fit(Lab(llama, reward=make_judge(lambda chat, text: 0.0)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"principle": "magic"}, "principle is 'magic'; it must be one of words, dev, none"),
        ({"rewriter": "gpt"}, "rewriter is 'gpt'; it must be model or fixed"),
        ({"tokens": -1}, "tokens is -1; it must be 0 or more"),
        ({"dev": -1}, "dev is -1; it must be 0 or more"),
        ({"keep": 1.5}, r"keep is 1.5; it must lie in \[0, 1\]"),
    ],
)
def test_bad_values_are_refused(fields, message):
    """Each in one line."""
    with pytest.raises(PlumblineError, match=message):
        PromptRewrite(**fields)
