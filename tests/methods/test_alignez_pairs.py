"""Self-generated pairs: stages, conditioning, cleaning, counts and refusals."""

import json

import pytest
import torch

from harness.chat import Chat
from harness.contracts.method import Lab
from harness.engine.decoding import Decoded
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.records import Prompt
from methods._alignez_pairs import Trait, answer_ids, self_generated
from methods.alignez import AlignEZ

QUESTIONS = ("What is the time?", "How are you?", "Where is it?", "Who are you?")
TRAIT = Trait.of("kind/rude")


class Scripted(Lab):
    """A lab whose model says what the test wants; it keeps what it was asked and shown."""

    def __init__(self, model, says=None, **more):
        more.setdefault("sampling", Sampling(max_new_tokens=8))
        super().__init__(model, **more)
        self.says = says
        self.asked, self.shown, self.read = [], [], []

    def generate(self, prompts, *, sampling=None, steering=None):
        """Answer by script, or by the model where there is none."""
        self.asked += [(p, sampling or self.sampling) for p in prompts]
        self.shown += [self.model.render(p.chat) for p in prompts]
        if self.says is None:
            return super().generate(prompts, sampling=sampling, steering=steering)
        made = []
        for i, prompt in enumerate(prompts):
            text = self.says(prompt)
            ids = (*self.model.encode_answer(prompt.chat, text), self.model.ends[0])
            made.append(Decoded(i, text, ids, "eos", {}))
        return made

    def record(self, chats, answers, sites, at="last", *, steering=None):
        """Note what is read."""
        self.read += [(self.model.render(c), tuple(a)) for c, a in zip(chats, answers, strict=True)]
        return super().record(chats, answers, sites, at, steering=steering)


def queries(words=QUESTIONS):
    """Make the queries."""
    return [Prompt(f"q{i}", Chat.of(text)) for i, text in enumerate(words)]


def answered(prompt):
    """Answer each side in its own way; list characteristics where they are asked for."""
    if " traits " in prompt.id:
        return "warm and calm" if " good " in prompt.id else "cold and loud"
    return f"yes {prompt.id[-1]}" if " good " in prompt.id else f"no {prompt.id[-1]}"


# ---------------------------------------------------------------- conditioning


def test_one_stage_uses_a_fixed_instruction(llama):
    """One stage asks each query once a side, under a fixed sentence in the system turn."""
    lab = Scripted(llama, answered)
    pairs = self_generated(lab, queries(), TRAIT, "one_stage", 1)
    assert len(lab.asked) == 2 * len(QUESTIONS)
    assert [p.chat.system for p, _ in lab.asked[:4]] == ["You are a kind assistant."] * 4
    assert [p.chat.system for p, _ in lab.asked[4:]] == ["You are a rude assistant."] * 4
    assert [llama.text(ids).strip() for ids in pairs.good] == [f"yes {i}" for i in range(4)]
    assert [llama.text(ids).strip() for ids in pairs.bad] == [f"no {i}" for i in range(4)]


def test_two_stages_put_what_was_listed_before_the_query(llama):
    """Two stages first let the model list characteristics, then answer under that list."""
    lab = Scripted(llama, answered, sampling=Sampling(max_new_tokens=80))
    self_generated(lab, queries(), TRAIT, "two_stage", 1)
    listed, asked = lab.asked[:8], lab.asked[8:]
    for (prompt, how), question in zip(listed, QUESTIONS * 2, strict=True):
        assert prompt.chat.verbatim_text.startswith(question)
        assert prompt.chat.verbatim_text.endswith("Characteristics of your answer:")
        assert how.max_new_tokens == 50
    assert "Pretend" not in listed[0][0].chat.verbatim_text
    assert "Pretend that you are a rude" in listed[4][0].chat.verbatim_text
    systems = [p.chat.system for p, _ in asked]
    assert systems[0] == "You are a kind assistant. Your answer is: warm and calm"
    assert systems[4] == "You are a rude assistant. Your answer is: cold and loud"
    assert all(how.max_new_tokens == 80 for _, how in asked)


@pytest.mark.parametrize(
    ("said", "why"), [("", "empty"), ("I'm sorry, no.", "refused"), (QUESTIONS[0], "copied")]
)
def test_a_failed_list_falls_back_to_the_adjective(llama, said, why):
    """An empty list, a refusal and a copy of the query are counted; the adjective stands in."""

    def says(prompt):
        return said if " traits q0" in prompt.id else answered(prompt)

    lab = Scripted(llama, says)
    pairs = self_generated(lab, queries(), TRAIT, "two_stage", 1)
    assert lab.asked[8][0].chat.system == "You are a kind assistant."
    assert lab.asked[9][0].chat.system != "You are a kind assistant."
    assert pairs.facts[f"{why} characteristics"] == 2


@pytest.mark.parametrize("generation", ["one_stage", "two_stage"])
@pytest.mark.parametrize("variant", ["v1", "v2", "v1_knn"])
def test_conditioning_is_dropped_before_states_are_measured(llama, generation, variant):
    """What is measured is the query and the answer, never the instruction it was written under."""
    lab = Scripted(llama, answered, queries=queries())
    AlignEZ(variant=variant, generation=generation, traits=("kind/rude",), steps=2).fit(lab)
    bare = {llama.render(p.chat) for p in queries()}
    assert {text for text, _ in lab.read} == bare
    assert all("kind" in text or "rude" in text for text in lab.shown)
    said = {llama.text(ids).strip() for _, ids in lab.read}
    assert said == {"", *(f"{w} {i}" for w in ("yes", "no") for i in range(4))}


def test_an_answer_is_measured_without_its_end(llama):
    """The end token and what a stop string cut off are no part of the text that is measured."""
    lab = Scripted(llama)
    end = llama.ends[0]
    assert answer_ids(lab, Decoded(0, "hi", (9, 10, end), "eos", {})) == (9, 10)
    assert answer_ids(lab, Decoded(0, "hi", (9, 10), "length", {})) == (9, 10)
    cut = answer_ids(lab, Decoded(0, "hi", (9, 10, 11, 12), "string", {}))
    assert llama.text(cut) == "hi"


def test_a_left_neighbours_prompt_stays(llama):
    """In a stack the pairs are written under the neighbour's prompt edit, and measured under it."""
    left = Steering(prompt=(lambda chats: [c.with_system("Be brief.") for c in chats],))
    lab = Scripted(llama, answered, queries=queries(), left=left)
    seen = []
    plain = llama.encode
    llama.encode = lambda chat: seen.append(llama.render(chat)) or plain(chat)
    AlignEZ(generation="one_stage", traits=("kind/rude",)).fit(lab)
    measured = [text for text in seen if "kind" not in text and "rude" not in text]
    assert measured
    assert all("Be brief." in text for text in seen)


# -------------------------------------------------------------------- cleaning


def test_identical_and_empty_answers_are_dropped_and_counted(llama):
    """A pair of one string, or with an empty side, is no pair; the rows stay matched."""

    def says(prompt):
        if prompt.id.endswith("q1"):
            return "the same"
        if prompt.id.endswith("q2") and " bad " in prompt.id:
            return ""
        return answered(prompt)

    pairs = self_generated(Scripted(llama, says), queries(), TRAIT, "one_stage", 1)
    assert [c.last_user for c in pairs.chats] == [QUESTIONS[0], QUESTIONS[3]]
    assert [llama.text(ids).strip() for ids in pairs.good] == ["yes 0", "yes 3"]
    assert [llama.text(ids).strip() for ids in pairs.bad] == ["no 0", "no 3"]
    facts = pairs.facts
    assert (facts["written"], facts["identical"], facts["with an empty answer"]) == (4, 1, 1)
    assert facts["pairs"] == 2


def test_several_pairs_a_query_are_drawn_under_luck_of_their_own(llama):
    """Two pairs a query have different names, so different luck, and keep to their query."""
    lab = Scripted(llama, lambda p: f"{p.id.split()[2]} {p.id.split()[3]} {p.id[-1]}")
    pairs = self_generated(lab, queries(), TRAIT, "one_stage", 2)
    assert len({p.id for p, _ in lab.asked}) == 16
    assert [c.last_user for c in pairs.chats] == [*QUESTIONS, *QUESTIONS]
    for i, (good, bad) in enumerate(zip(pairs.good, pairs.bad, strict=True)):
        assert llama.text(good).strip() == f"good {i // 4} {i % 4}"
        assert llama.text(bad).strip() == f"bad {i // 4} {i % 4}"


def test_queries_too_long_to_be_instructed_are_counted(llama):
    """A query that does not fit once instructed is left out of both sides."""
    long = "word " * 24
    lab = Scripted(llama, answered)
    assert len(llama.encode(Chat.of(long))) + 8 < llama.context
    pairs = self_generated(lab, queries((*QUESTIONS, long)), TRAIT, "one_stage", 1)
    assert pairs.facts["queries too long to be instructed"] == 1
    assert pairs.facts["pairs"] == 4


def test_what_was_elicited_is_not_stored(llama):
    """Neither facts nor tensors hold a word of what the model wrote for the negative role."""

    def says(prompt):
        word = "nasty" if " bad " in prompt.id else "lovely"
        return f"{word} {prompt.id[-1]}"

    fitted = AlignEZ(traits=("kind/rude",)).fit(Scripted(llama, says, queries=queries()))
    told = json.dumps(fitted.facts)
    assert "nasty" not in told
    assert "lovely" not in told
    assert len(fitted.facts["traits"]["kind/rude"]["written"]["digest"]) == 16


def test_facts_say_what_the_pairs_are_like(llama):
    """Counts, lengths and the mean cosine of a pair are kept for a person to read."""
    fitted = AlignEZ(generation="one_stage").fit(Scripted(llama, queries=queries()))
    facts = fitted.facts["traits"]["general"]
    assert facts["written"]["answer tokens"] >= 8
    assert facts["written"]["mean tokens"][0] > 0
    assert len(facts["mean cosine of a pair"]) == 3
    assert len(facts["change over state"]) == 3
    assert facts["pairs that differ"] == [
        int((c <= 4).item()) * c for c in torch.tensor(facts["pairs that differ"])
    ]


# -------------------------------------------------------------------- refusals


def test_identical_pairs_alone_are_refused(llama):
    """A model that says the same under both instructions gives no direction."""
    with pytest.raises(PlumblineError, match=r"left 0 of 4 .*\(4 identical, 0 with an empty"):
        AlignEZ().fit(Scripted(llama, lambda p: "same", queries=queries()))


def test_too_few_pairs_are_refused(llama):
    """One pair is no direction."""
    with pytest.raises(PlumblineError, match=r"left 1 of 1 self-generated pairs.*2 at least"):
        AlignEZ().fit(Scripted(llama, answered, queries=queries(QUESTIONS[:1])))


def test_unknown_traits_are_refused():
    """A trait is a known name or a pair of adjectives."""
    with pytest.raises(PlumblineError, match=r"alignez\.traits holds 'brave'; known: general"):
        Trait.of("brave")
    with pytest.raises(PlumblineError, match="'kind/'"):
        AlignEZ(traits=("kind/",))
    assert Trait.of(" kind / rude ").bad == "rude"
    assert Trait.of("helpful").bad == "useless"
