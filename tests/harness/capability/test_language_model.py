"""The wrapper is lm-eval's own model where nothing is steered, and the steered one elsewhere."""

from contextlib import contextmanager

import pytest
import torch
from lm_eval.evaluator import evaluate

from harness.capability.measuring import Ask
from harness.capability.tasks import find_tasks, quiet
from harness.chat import Chat
from harness.engine.decoding import Job, decode
from harness.engine.density import NoDensity, logprobs
from harness.engine.sampling import Sampling
from harness.engine.steering import HiddenEdit, Search, Site, Steering, after_prompt, at_last
from harness.errors import PlumblineError

PAIRS = [
    ("Once upon a time", " there was a little girl"),
    ("Once upon a time", " there was a little boy"),
    ("Once upon a time", " there was a little"),
    ("The dog ", "ran"),  # a blank that lm-eval moves to the continuation
    ("", "One day"),
    ("Lily and Tom like to play in the park. They see a big", " dog"),
    ("Lily and Tom like to play in the park. They see a big", " cat"),
    ("a", " b"),
    ("She was very happy and", " said, thank you"),
]
TEXTS = [
    ("Once upon a time there was a little girl named Lily.",),
    ("The dog ran.",),
    ("They like to play in the park with their friends. " * 30,),  # more than one window
]
ASKED = [
    ("Once upon a time", {"until": ["."], "max_gen_toks": 24}),
    ("The dog", {"until": ["."], "max_gen_toks": 24}),
    ("Lily and Tom like to play in the park. They", {"until": ["."], "max_gen_toks": 24}),
    ("One day", {"until": [" the", "\n"], "max_gen_toks": 16, "do_sample": False}),
    ("a", {"max_gen_toks": 8, "temperature": 0.0}),
]


@pytest.mark.parametrize("batch", [1, 4])
def test_likelihoods_equal_those_of_hflm_to_the_bit(model, ours, theirs, requests, batch):
    """At equal batches every log-likelihood is the very same number, and so is greediness."""
    asked = requests("loglikelihood", PAIRS)
    expected = theirs(model, batch).loglikelihood(asked, disable_tqdm=True)
    assert ours(model, batch_size=batch).loglikelihood(asked) == expected
    assert len({value for value, _ in expected}) > 5


def test_likelihoods_do_not_depend_on_the_batch(model, ours, theirs, requests):
    """At other batches than HFLM's they agree to 1e-4."""
    asked = requests("loglikelihood", PAIRS)
    expected = theirs(model, 1).loglikelihood(asked, disable_tqdm=True)
    found = ours(model, batch_size=9).loglikelihood(asked)
    assert [value for value, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


@pytest.mark.parametrize("batch", [1, 4])
def test_rolling_likelihoods_equal_those_of_hflm(model, ours, theirs, requests, batch):
    """Whole texts, one of them longer than the model reads, get HFLM's numbers to the bit."""
    asked = requests("loglikelihood_rolling", TEXTS)
    expected = theirs(model, batch).loglikelihood_rolling(asked, disable_tqdm=True)
    assert ours(model, batch_size=batch).loglikelihood_rolling(asked) == expected


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_greedy_answers_equal_those_of_hflm(model, ours, theirs, requests, batch):
    """Greedy answers are the same strings at any batch, blanks and stop strings included."""
    asked = requests("generate_until", ASKED)
    expected = theirs(model, 1).generate_until(asked, disable_tqdm=True)
    assert ours(model, batch_size=batch).generate_until(asked) == expected
    assert any(text != text.strip() or text for text in expected)


def test_a_template_renders_what_hflm_renders(tiny, ours, theirs):
    """A conversation in the tokenizer's own template is the same string, prefilled or not."""
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Sure, a"},
    ]
    mine, hf = ours(tiny, chats=True), theirs(tiny)
    assert mine.apply_chat_template(turns[:2]) == hf.apply_chat_template(turns[:2])
    assert mine.apply_chat_template(turns, False) == hf.apply_chat_template(turns, False)


@pytest.mark.parametrize("name", ["testbed_tools", "testbed_dialogues", "testbed_steps"])
def test_a_whole_task_comes_to_what_hflm_makes_of_it(model, ours, theirs, name):
    """lm-eval's own figures on a task are HFLM's, and so is every single answer."""
    (asked,) = find_tasks(name)
    if name == "testbed_steps":  # it samples, and nobody else has our luck
        greedy = {"until": ["<|end|>"], "max_gen_toks": 12, "do_sample": False}
        asked.tasks[name].set_config("generation_kwargs", greedy)
    found = []
    for lm in (ours(model, batch_size=8), theirs(model, 8)):
        Ask(asked).prepare()
        with quiet():
            found.append(evaluate(lm=lm, task_dict=asked.loaded, limit=12, bootstrap_iters=0))
    mine, hf = found
    assert mine["results"] == hf["results"]
    answers = [[sample["resps"] for sample in one["samples"][name]] for one in found]
    assert answers[0] == answers[1]


def shifted(site=1):
    """Shift the residual stream at the positions that draw."""
    return Steering(hidden=(HiddenEdit(Site.layer(site), at_last(lambda h, s: h + 0.5)),))


def tilted(logits, step):
    """Favour low tokens, later ones more."""
    return logits - 0.01 * (1 + step.index) * torch.arange(logits.shape[1])


@pytest.mark.parametrize(
    "steering",
    [
        shifted(),
        Steering(hidden=(HiddenEdit(Site.layer(0), after_prompt(lambda h, s: 2 * h)),)),
        Steering(logits=(tilted,)),
    ],
    ids=["at_last", "after_prompt", "logits"],
)
def test_a_steered_likelihood_is_that_of_the_engine(tiny, ours, requests, steering):
    """Edits meet lm-eval's texts as they meet an answer of the bench."""
    found = ours(tiny, steering, batch_size=3).loglikelihood(requests("loglikelihood", PAIRS[:3]))
    plain = ours(tiny).loglikelihood(requests("loglikelihood", PAIRS[:3]))
    jobs = [Job(str(i), Chat.verbatim(c), Sampling()) for i, (c, _) in enumerate(PAIRS[:3])]
    scored = [tiny.tokenizer(t, add_special_tokens=False).input_ids for _, t in PAIRS[:3]]
    expected = [float(x.sum()) for x in logprobs(tiny, jobs, scored, steering)]
    assert [value for value, _ in found] == pytest.approx(expected, abs=1e-3)
    assert all(abs(a[0] - b[0]) > 0.05 for a, b in zip(found, plain, strict=True))


def test_a_change_of_weights_is_in_place_and_undone(tiny, ours, requests):
    """Adapters are on while texts are read and off afterwards."""
    head = tiny.net.get_output_embeddings().weight
    before = head.clone()

    @contextmanager
    def weights():
        head.data.mul_(1.5)
        try:
            yield
        finally:
            head.data.copy_(before)

    asked = requests("loglikelihood", PAIRS[:3])
    found = ours(tiny, Steering(weights=weights)).loglikelihood(asked)
    assert torch.equal(head, before)
    assert found != ours(tiny).loglikelihood(asked)


def test_a_steered_answer_is_that_of_the_engine(tiny, ours, requests):
    """Generation goes through the one decoding loop, edits and all."""
    asked = requests("generate_until", [("Once upon", {"max_gen_toks": 12})])
    (found,) = ours(tiny, shifted()).generate_until(asked)
    job = Job("x", Chat.verbatim("Once upon"), Sampling(temperature=0, max_new_tokens=12))
    ((expected,),) = decode(tiny, [job], shifted())
    assert found == tiny.text(expected.tokens)
    assert found != ours(tiny).generate_until(asked)[0]


def polite(chats):
    """Add a system sentence and an example, as prompting does."""
    return [
        Chat((*Chat().user("1+1?").assistant("2").messages, *c.messages)).with_system("Be kind.")
        for c in chats
    ]


def test_a_prompt_goes_before_a_plain_context(tiny, ours, requests):
    """Without a template the method's words stand before the context, a blank line each."""
    steering = Steering(prompt=(polite,))
    pairs = [("Once upon a time ", "there was"), ("", "One day")]
    found = ours(tiny, steering).loglikelihood(requests("loglikelihood", pairs))
    head = "Be kind.\n\n1+1?\n\n2\n\n"
    by_hand = [(head + "Once upon a time ", "there was"), (head.rstrip(), "\n\nOne day")]
    expected = ours(tiny).loglikelihood(requests("loglikelihood", by_hand))
    assert found[0] == expected[0]
    blanks = ours(tiny).loglikelihood(requests("loglikelihood", [(head.rstrip(), "\n\n")]))
    assert found[1][0] == pytest.approx(expected[1][0] - blanks[0][0], abs=1e-4)
    assert found != ours(tiny).loglikelihood(requests("loglikelihood", pairs))


def test_a_prompt_joins_the_conversation_of_a_rendered_context(tiny, ours, requests):
    """With a template the edited conversation is rendered, the answer's beginning kept."""
    steered = ours(tiny, Steering(prompt=(polite,)), chats=True)
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is"}]
    context = steered.apply_chat_template(turns, False)
    (found,) = steered.loglikelihood(requests("loglikelihood", [(context, " 4")]))
    whole = polite([Chat.of("2+2?")])[0]
    plain = ours(tiny, chats=True)
    text = plain.apply_chat_template([*whole.to_dicts(), turns[1]], False)
    assert [found] == plain.loglikelihood(requests("loglikelihood", [(text, " 4")]))


def test_a_method_sees_the_users_words_only(tiny, ours, requests):
    """What is prepared per prompt, and what a search scores, is the conversation as put."""
    seen = []

    def prepare(chats):
        seen.extend(chats)
        return {"n": torch.zeros(len(chats))}

    steering = Steering(prompt=(polite,), prepare=(prepare,))
    steered = ours(tiny, steering, chats=True)
    context = steered.apply_chat_template([{"role": "user", "content": "2+2?"}])
    steered.loglikelihood(requests("loglikelihood", [(context, "4")]))
    steered.generate_until(requests("generate_until", [(context, {"max_gen_toks": 2})]))
    assert [chat.to_dicts() for chat in seen] == [Chat.of("2+2?").to_dicts()] * 2


def test_a_prompt_comes_before_every_window_of_a_long_text(tiny, ours, requests):
    """A rolling likelihood reads the method's words first, and still scores every token."""
    steering = Steering(prompt=(polite,))
    asked = requests("loglikelihood_rolling", [("One day",), ("ab cd " * 150,)])
    found = ours(tiny, steering).loglikelihood_rolling(asked)
    (expected,) = ours(tiny, steering).loglikelihood(requests("loglikelihood", [("", "One day")]))
    assert found[0] == expected[0]
    assert found[1] < found[0]


def test_a_search_answers_and_has_no_density(tiny, ours, requests):
    """A search generates, choosing among its candidates; likelihoods it refuses, never zero."""
    lengths = Steering(
        search=Search(4, lambda rows: torch.tensor([float(len(t)) for t in rows.texts()]))
    )
    asked = requests("generate_until", [("Once upon", {"max_gen_toks": 6, "until": ["e"]})] * 3)
    chosen = ours(tiny, lengths).generate_until(asked)
    assert len(chosen) == 3
    with pytest.raises(NoDensity, match="search"):
        ours(tiny, lengths).loglikelihood(requests("loglikelihood", PAIRS[:1]))
    with pytest.raises(NoDensity, match="search"):
        ours(tiny, lengths).loglikelihood_rolling(requests("loglikelihood_rolling", TEXTS[:1]))


def test_samples_follow_the_tasks_settings_and_the_seed(tiny, ours, requests):
    """Repeats are other draws, a seed gives the same ones again, and batches change none."""
    how = {"max_gen_toks": 12, "do_sample": True, "temperature": 0.9, "top_p": 0.95}
    asked = requests("generate_until", [("Once upon", how)] * 3)
    for request in asked:
        request.doc_id = 0
    found = ours(tiny, seed=1).generate_until(asked)
    assert len(set(found)) == 3
    assert ours(tiny, seed=1, batch_size=1).generate_until(asked) == found
    assert ours(tiny, seed=2).generate_until(asked) != found


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"num_beams": 4}, "num_beams = 4 is not offered"),
        ({"max_gen_toks": 512}, "leaves no room"),
        ({"max_gen_toks": 4, "do_sample": True, "top_p": 2.0}, "top_p"),
    ],
)
def test_settings_that_cannot_be_met_are_named(tiny, ours, requests, how, words):
    """A generation setting that would be ignored is an error instead."""
    with pytest.raises(PlumblineError, match=words):
        ours(tiny).generate_until(requests("generate_until", [("Once", how)]))


def test_a_tokenizer_without_an_end_is_refused(tiny, ours):
    """A model whose tokenizer names no end of text cannot be asked, and that is said."""
    tiny.tokenizer.eos_token = None
    with pytest.raises(PlumblineError, match="end-of-text token"):
        ours(tiny)


def test_contexts_that_do_not_fit_are_cut_and_counted(tiny, ours, theirs, requests):
    """A context too long keeps its end, as HFLM's does, and the cut is counted."""
    long = "ab cd " * 200
    asked = requests("loglikelihood", [(long, " ef")])
    mine = ours(tiny)
    assert mine.loglikelihood(asked) == theirs(tiny).loglikelihood(asked, disable_tqdm=True)
    drawn = requests("generate_until", [(long, {"max_gen_toks": 5})])
    assert mine.generate_until(drawn) == theirs(tiny).generate_until(drawn, disable_tqdm=True)
    assert mine.notes == {"contexts cut from the left to fit the model": 2}
