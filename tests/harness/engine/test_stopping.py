"""Where an answer ends, and why."""

import pytest
import torch

from harness.engine.steering import Search, Steering
from harness.engine.stopping import StopStrings, ended

KINDS = ("bytes", "pieces", "words")


def forced(ids, then=5):
    """Make a logits edit that writes the given tokens, then another one for ever."""

    def edit(logits, step):
        out = torch.full_like(logits, -1e4)
        out[:, ids[step.index] if step.index < len(ids) else then] = 0.0
        return out

    return Steering(logits=(edit,))


def spell(model, text):
    """Give the tokens of a text."""
    return model.tokenizer.encode(text, add_special_tokens=False)


def hit(tokenizer, strings, ids):
    """Say after how many tokens a string is found, feeding one token at a time."""
    stops = StopStrings(tokenizer, strings, len(tokenizer))
    row = torch.tensor([ids])
    return next((n for n in range(1, len(ids) + 1) if stops.hit(row, n)[0]), None)


def shortest(tokenizer, strings, ids):
    """Say the same by decoding everything every time."""
    for n in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:n], skip_special_tokens=True)
        if any(s in text for s in strings):
            return n
    return None


def test_end_strings_and_budget_end_an_answer(llama, make_jobs, answer):
    """Each reason is stored, and the text is what was said before it."""
    jobs = make_jobs(("a",), budget=12)
    hello = spell(llama, "hello there")
    end = llama.tokenizer.eos_token_id
    cases = {
        "eos": (forced([*hello, end]), [*hello, end]),
        "string": (
            forced([*hello, *spell(llama, "END and")]) + Steering(stop=("END",)),
            [*hello, *spell(llama, "END")],
        ),
        "length": (forced([*hello, *[spell(llama, "x")[0]] * 20]), None),
    }
    for reason, (steering, tokens) in cases.items():
        (d,) = answer(llama, jobs, steering)
        assert d.stop == reason
        if tokens is not None:
            assert list(d.tokens) == tokens
            assert d.text == "hello there"
        else:
            assert len(d.tokens) == 12
            assert d.text == llama.tokenizer.decode(d.tokens)


def test_an_end_token_at_the_budget_is_an_end_token(llama, make_jobs, answer):
    """An answer that ends by itself with its last token is not cut by the budget."""
    jobs = make_jobs(("a",), budget=3)
    end = llama.tokenizer.eos_token_id
    (d,) = answer(llama, jobs, forced([7, 8, end]))
    assert (d.stop, d.tokens) == ("eos", (7, 8, end))
    (d,) = answer(llama, make_jobs(("a",), budget=1), forced([9]))
    assert (d.stop, d.tokens) == ("length", (9,))


def test_an_end_token_that_completes_a_string_is_an_end_token(llama, make_jobs, answer):
    """Where one token is both, the model's own end is the reason that is stored."""
    end = spell(llama, "!")[0]
    llama.ends = (end,)
    (d,) = answer(llama, make_jobs(("a",)), forced([7, end]) + Steering(stop=("!",)))
    assert (d.stop, d.tokens) == ("eos", (7, end))


def test_every_end_token_of_the_model_counts(make_model, make_jobs, answer):
    """Tokenizer's and generation config's end tokens all end an answer."""
    from copy import copy

    from harness.engine.model import Model

    model = make_model()
    net = copy(model.net)
    net.generation_config = copy(net.generation_config)
    net.generation_config.eos_token_id = [9, 11]
    both = Model(net, model.tokenizer, model.template, name="both")
    assert both.ends == (2, 9, 11)
    for end in both.ends:
        (d,) = answer(both, make_jobs(("a",)), forced([7, end]))
        assert (d.stop, d.tokens) == ("eos", (7, end))
    assert ended(torch.tensor([2, 3, 11]), torch.tensor(both.ends)).tolist() == [True, False, True]


def test_a_model_without_end_tokens_runs_to_its_budget(make_model, make_jobs, answer):
    """No end token is not an error."""
    found = answer(make_model(ends=False), make_jobs(budget=30))
    assert {len(d.tokens) for d in found} == {30}
    assert {d.stop for d in found} == {"length"}


def test_the_template_brings_its_own_stop_strings(llama, make_jobs, answer):
    """A base model that goes on to write the user's turn is stopped, and the text is cut."""
    said = spell(llama, "It is late.\n\nHuman: What")
    (d,) = answer(llama, make_jobs(("a",), budget=30), forced(said))
    assert (d.text, d.stop) == ("It is late.", "string")
    assert d.tokens == tuple(said[: len(d.tokens)])
    assert len(d.tokens) < len(said)


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize(
    ("string", "text"),
    [
        ("\n\nHuman:", "It is late.\n\nHuman: no"),  # over several tokens
        ("e", "there now"),  # inside a token
        ("o th", "hello there now"),  # from inside one token into another
        ("!", "wow!!! yes"),
        ("。", "ab。cd"),  # one character of three bytes
        ("終わり", "これで終わり。"),
        ("😀", "a😀b"),
        ("é", "caf\u00e9s"),
        (" USER:", "yes USER: no"),
        ("never", "here is nothing"),
    ],
)
def test_a_string_is_found_by_the_token_that_completes_it(make_tokenizer, kind, string, text):
    """Whatever the tokens, a string is found at the token that completes it, no later."""
    tokenizer = make_tokenizer(kind, bos=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert hit(tokenizer, (string,), ids) == shortest(tokenizer, (string,), ids)
    assert (shortest(tokenizer, (string,), ids) is None) == (string == "never")


@pytest.mark.parametrize("kind", KINDS)
def test_random_answers_are_cut_where_decoding_everything_would_cut(make_tokenizer, kind):
    """On random tokens the quick search and the exhaustive one agree."""
    tokenizer = make_tokenizer(kind)
    strings = ("e", "th", "\n", "US", " h", "é", "\u3002", "ll", "a")
    generator = torch.Generator().manual_seed(1)
    found = 0
    for trial in range(60):
        ids = torch.randint(4, len(tokenizer), (25,), generator=generator).tolist()
        chosen = strings[trial % 9 :: 3]
        expected = shortest(tokenizer, chosen, ids)
        assert hit(tokenizer, chosen, ids) == expected
        found += expected is not None
    assert found > 5


def test_a_long_string_of_many_byte_characters_is_found(make_tokenizer):
    """A string whose every character is several tokens is still within reach."""
    tokenizer = make_tokenizer("pieces", bos=False)
    string = "終わりの言葉をここに書く" * 2
    ids = tokenizer.encode("はじめに" + string, add_special_tokens=False)
    assert len(ids) > 3 * len(string)
    assert hit(tokenizer, (string,), ids) == len(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_string_may_be_a_special_token(make_tokenizer, kind):
    """A special token given as a stop string ends the answer, though no text shows it."""
    tokenizer = make_tokenizer(kind, bos=False)
    ids = tokenizer.encode("hello", add_special_tokens=False)
    assert hit(tokenizer, (tokenizer.eos_token,), ids) is None
    assert hit(tokenizer, (tokenizer.eos_token,), [*ids, tokenizer.eos_token_id]) == len(ids) + 1


def test_text_is_cut_at_the_first_string():
    """The earliest string cuts, even where two overlap."""
    stops = StopStrings.__new__(StopStrings)
    for strings in (("XY", "bX"), ("bX", "XY")):
        stops.strings = strings
        assert stops.cut("abXYc") == "a"
        assert stops.cut("plain") == "plain"


def test_stop_strings_of_a_stack_add_up(llama, make_jobs, answer):
    """A method's stop strings stand beside the template's and its neighbours'."""
    both = Steering(stop=("one",)) + Steering(stop=("two",))
    for text, rest in (("a one b", "a"), ("a two b", "a"), ("a\n\nHuman: b", "a")):
        (d,) = answer(llama, make_jobs(("a",), budget=25), forced(spell(llama, text)) + both)
        assert (d.text, d.stop) == (rest, "string")


def test_an_empty_stop_string_stops_nothing(llama, make_jobs, answer):
    """The empty string is no stop string."""
    jobs = make_jobs()
    found = answer(llama, jobs, Steering(stop=("",)))
    assert [d.tokens for d in found] == [d.tokens for d in answer(llama, jobs)]


def test_candidates_stop_each_for_itself(llama, make_jobs, answer):
    """In a search every candidate ends by the same rule, and what is scored is the cut text."""
    texts = []

    def edit(logits, step):
        out = torch.full_like(logits, -1e4)
        line = [spell(llama, "yes END")[: step.index + 1], spell(llama, "no, no, no, no")]
        for row, slot in enumerate(step.rows.slot.tolist()):
            ids = line[slot]
            out[row, ids[min(step.index, len(ids) - 1)]] = 0.0
        return out

    def score(rows):
        texts.append(rows.texts())
        return -rows.slot.double()

    steering = Steering(logits=(edit,), search=Search(2, score), stop=("END",))
    (d,) = answer(llama, make_jobs(("a",), budget=9), steering)
    assert (d.text, d.stop) == ("yes", "string")
    assert sorted(texts[0])[1] == "yes"
    assert d.pool[0].text == "yes"
