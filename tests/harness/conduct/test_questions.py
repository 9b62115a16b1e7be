"""What is asked: nothing is cut, whatever is left out is counted."""

import json
from pathlib import Path

import pytest

from harness.conduct.protocol import load
from harness.conduct.questions import OVERLAPPING, ask, training
from harness.conduct.setting import Setting
from harness.errors import PlumblineError


def pair(question, chosen="a b", rejected="c"):
    """One line of HH-RLHF."""
    side = "\n\nHuman: {}\n\nAssistant: {}"
    return {"chosen": side.format(question, chosen), "rejected": side.format(question, rejected)}


def setting(tiny, folder, items, pairs=(), extra=""):
    """A setting whose HH-RLHF and whose training pairs are these lines."""
    for name, lines in (("items", items), ("pairs", pairs)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    text = Path(tiny).read_text()
    text = text[: text.index("[data.mt_bench]")] + text[text.index("[training]") :]
    text = text.replace('world = "hh_rlhf"', f'file = "{folder}/items.jsonl"')
    if pairs:
        start, end = text.index("pairs ="), text.index("[sampling]")
        text = text[:start] + f'pairs = {{ file = "{folder}/pairs.jsonl" }}\n' + text[end:]
    file = folder / "mine.toml"
    file.write_text(text + extra)
    return Setting(load(file), device="cpu")


def test_prompts_that_do_not_fit_are_left_out_and_counted(tiny, tmp_path):
    """A prompt beyond the set's own limit, or the model's context, is counted, never cut."""
    context = Setting(load(Path(tiny)), device="cpu").model.context
    assert context < 500
    made = setting(tiny, tmp_path, [pair("a b"), pair("a " * 600), pair("b " * (context - 4))])
    asked = ask(made, "hh_rlhf")
    assert [p.chat.last_user for p in asked.prompts] == ["a b"]
    assert asked.notes["prompts over 512 tokens (left out)"] == 1
    reason = f"prompts that with 4 new tokens exceed the model's context of {context} (left out)"
    assert asked.notes[reason] == 1


def test_a_set_of_which_nothing_is_left_is_an_error(tiny, tmp_path):
    """A run over no prompt is refused, and the reasons are in the line."""
    made = setting(tiny, tmp_path, [pair("a " * 600)])
    with pytest.raises(PlumblineError, match=r"no prompt is left.*1 prompts over 512"):
        ask(made, "hh_rlhf")


def test_a_count_takes_the_same_prompts_whatever_stands_beside_them(tiny, tmp_path):
    """A smaller count lies inside a larger one; ids choose, order stays, and it is counted."""
    items = [pair(name) for name in ("a", "b", "c", "a a", "a b", "a c", "b a", "b b")]

    def asked(count, lines=items):
        made = setting(tiny, tmp_path, lines)
        text = made.protocol.file.read_text()
        line = f'file = "{tmp_path}/items.jsonl"'
        made.protocol.file.write_text(text.replace(line, f"{line}\ncount = {count}"))
        return ask(Setting(load(made.protocol.file), device="cpu"), "hh_rlhf")

    whole, five, two = asked(8), asked(5), asked(2)
    assert [len(q.prompts) for q in (whole, five, two)] == [8, 5, 2]
    assert set(two.prompts) < set(five.prompts) < set(whole.prompts)
    assert [p for p in whole.prompts if p in five.prompts] == list(five.prompts)
    assert five.notes["prompts of 8 asked, as the protocol wants"] == 5
    assert set(five.sampling) == {p.id for p in five.prompts}
    assert not any("asked" in note for note in asked(8).notes)


def test_sampling_follows_the_protocol_then_the_set(tiny, tmp_path):
    """A field the protocol leaves open is the benchmark's own; a section of its own wins."""
    items = [pair("a b")]
    plain = ask(setting(tiny, tmp_path, items), "hh_rlhf")
    assert {s.temperature for s in plain.sampling.values()} == {1.0}
    assert plain.plain
    made = setting(tiny, tmp_path, items, extra="[sampling.hh_rlhf]\ntemperature = 0.0\n")
    greedy = ask(made, "hh_rlhf")
    assert {s.temperature for s in greedy.sampling.values()} == {0.0}
    assert not greedy.plain


def test_what_is_asked_has_a_digest(tiny, tmp_path):
    """The same items digest alike; other words, or fewer items, do not."""
    first = ask(setting(tiny, tmp_path, [pair("a b"), pair("c")]), "hh_rlhf")
    again = ask(setting(tiny, tmp_path, [pair("a b"), pair("c")]), "hh_rlhf")
    other = ask(setting(tiny, tmp_path, [pair("a b"), pair("c c")]), "hh_rlhf")
    assert first.digest() == again.digest()
    assert len({first.digest(), other.digest(), first.first(1).digest()}) == 3
    assert first.first(None) == first


def test_pairs_that_open_with_a_benchmark_question_are_left_out_and_counted(tiny, tmp_path):
    """No method is fitted on what it will be asked."""
    pairs = [pair("a b"), pair("c a"), pair("b a"), pair("A  B")]
    found = training(setting(tiny, tmp_path, [pair("a b")], pairs))
    assert sorted(p.prompt.last_user for p in found.pairs) == ["b a", "c a"]
    assert found.notes[OVERLAPPING] == 2


def test_pairs_are_permuted_by_the_seed_and_cut_to_size(tiny, tmp_path):
    """A count takes the first of one order; a smaller count is its prefix; a seed reorders."""
    names = ["a", "b", "c", "a a", "a b", "a c", "b a", "b b"]
    pairs = [pair(name) for name in names]

    def order(extra):
        text = Path(tiny).read_text()
        assert "count" in text
        made = setting(tiny, tmp_path, [pair("c c c")], pairs)
        file = made.protocol.file
        body = file.read_text().replace("[sampling]", f"{extra}\n[sampling]", 1)
        file.write_text(body)
        return [p.prompt.last_user for p in training(Setting(load(file), device="cpu")).pairs]

    whole, some, other = order("count = 8"), order("count = 3"), order("count = 8\nseed = 1")
    assert some == whole[:3]
    assert sorted(whole) == sorted(other) == sorted(names)
    assert whole != other


def test_a_protocol_without_pairs_has_none(tiny, tmp_path):
    """Where the protocol names no pairs there is nothing to fit on, and no file is read."""
    file = tmp_path / "bare.toml"
    text = Path(tiny).read_text()
    file.write_text(text[: text.index("[training]")] + text[text.index("[sampling]") :])
    assert training(Setting(load(file), device="cpu")).pairs == ()
