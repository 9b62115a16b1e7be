"""What a method is granted, what it returns, and how methods stack."""

from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import pytest

from harness.chat import Chat
from harness.conduct.grammar import Part, parse_rows
from harness.contracts.method import Fitted, Kit, Lab, Method, Named, Stack
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.records import Prompt


@dataclass(frozen=True)
class Plain(Method):
    """Learns nothing, adds a stop string."""

    word: str = "x"
    n: int = 1

    def steer(self, kit, fitted):
        """Add the word."""
        return Steering(stop=(self.word + fitted.facts.get("tail", ""),))


@dataclass(frozen=True)
class Learned(Plain):
    """Learns a tail."""

    needs: ClassVar = frozenset({"pairs"})

    def fit(self, lab):
        """Learn."""
        return Fitted(facts={"tail": "!"})


def test_a_method_says_what_was_changed():
    """Settings are all fields, changes those that differ from their defaults."""
    method = Plain(n=3)
    assert method.settings() == {"word": "x", "n": 3}
    assert method.changed() == {"n": 3}
    assert Named("plain", method).label == "plain(n=3)"
    assert Named("plain", Plain()).label == "plain"


def test_a_method_is_frozen_and_hashable():
    """Two methods of the same settings are the same."""
    assert hash(Plain(n=3)) == hash(Plain(n=3))
    with pytest.raises(FrozenInstanceError):
        Plain().n = 2


def test_a_method_fits_where_it_learns():
    """The default fit learns nothing and need not be stored."""
    assert not Plain().fits()
    assert Learned().fits()
    assert Plain().fit(None) == Fitted()


@pytest.mark.parametrize("word", ["be kind, and safe", "a+b", "it's (so)", "x=1", "plain"])
def test_a_label_is_read_back_as_it_was_meant(word):
    """A value with the signs of METHOD= stands in quotes, so that the label names the row."""
    label = Named("a", Plain(word=word)).label
    assert parse_rows(label) == [(Part("a", (("word", word),)),)]


def test_a_stack_sums_left_to_right():
    """Labels, needs and steerings follow the order of the parts."""
    stack = Stack((Named("a", Plain("one")), Named("b", Learned("two", 5))))
    assert stack.label == "a(word=one)+b(word=two,n=5)"
    assert stack.name == "a+b"
    assert stack.needs == {"pairs"}
    steering = stack.steer(Kit(None), [Fitted(), Fitted(facts={"tail": "!"})])
    assert steering.stop == ("one", "two!")
    with pytest.raises(ValueError, match="zip"):
        stack.steer(Kit(None), [Fitted()])


def test_a_kit_grants_what_the_protocol_grants(llama, make_reward):
    """A reward model that was not granted is refused in a line."""
    assert Kit(llama).sampling == Sampling()
    with pytest.raises(PlumblineError, match="this protocol grants no reward model"):
        _ = Kit(llama).reward
    reward = make_reward()
    assert Kit(llama, reward=reward).reward is reward
    assert Kit(llama, models={"aligned": llama}).models["aligned"] is llama


def test_reading_the_test_prompts_marks_the_fit(llama):
    """A lab is transductive from the first look at the queries."""
    queries = [Prompt("q", Chat.of("a"))]
    lab = Lab(llama, queries=queries)
    assert not lab.transductive
    assert lab.queries == queries
    assert lab.transductive


def test_a_lab_generates_through_its_left_neighbours(llama):
    """Answers come from the model as steered by the left, unless another steering is given."""
    prompts = [Prompt(f"p{i}", Chat.of(t)) for i, t in enumerate(("a", "hello there", "b"))]
    how = Sampling(temperature=0, max_new_tokens=6)
    turned = Steering(logits=(lambda z, s: -z,))
    plain = Lab(llama, sampling=how).generate(prompts)
    lab = Lab(llama, left=turned, sampling=how)
    assert [d.job for d in plain] == [0, 1, 2]
    assert [d.tokens for d in lab.generate(prompts)] != [d.tokens for d in plain]
    base = lab.generate(prompts, steering=Steering())
    assert [d.tokens for d in base] == [d.tokens for d in plain]
    short = lab.generate(prompts, sampling=Sampling(temperature=0, max_new_tokens=2))
    assert max(len(d.tokens) for d in short) == 2


def test_what_is_prepared_reads_the_model_as_the_left_has_steered_it(llama, make_jobs, answer):
    """While prompts are prepared the method's own edits are not in place, its left's are."""
    import torch

    from harness.engine.steering import HiddenEdit, Site

    site, seen = Site.layer(1), {}

    @dataclass(frozen=True)
    class Shift(Method):
        by: float = 1.0

        def steer(self, kit, fitted):
            def prepare(chats):
                (batch,) = kit.record(chats, [()] * len(chats), [site])
                seen[self.by] = batch.states[site].clone()
                return {}

            edit = HiddenEdit(site, lambda h, step: h + self.by)
            return Steering(prepare=(prepare,), hidden=(edit,))

    def hooks():  # the library may have left hooks of its own on a network shared by tests
        return sum(len(m._forward_hooks) for m in llama.net.modules())

    before = hooks()
    stack = Stack((Named("a", Shift(1.0)), Named("b", Shift(2.0))))
    answer(llama, make_jobs(budget=2), stack.steer(Kit(llama), [Fitted(), Fitted()]))
    torch.testing.assert_close(seen[2.0], seen[1.0] + 1)
    assert hooks() == before
