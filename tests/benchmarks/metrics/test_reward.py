"""The reward scorers."""

import math
from dataclasses import dataclass, field

import pytest

from benchmarks.metrics.gold import Metric as Gold
from benchmarks.metrics.optimised_reward import Metric as OptimisedReward
from benchmarks.metrics.reward import Metric as Reward
from harness.api import Chat, Instruments, Prompt


@dataclass
class FakeRewardModel:
    """Scores by a function and remembers what it was shown."""

    value: object = len
    seen: list = field(default_factory=list)

    def score(self, chats, texts):
        """Give a number an answer."""
        self.seen += list(zip(chats, texts, strict=True))
        return [float(self.value(text)) for text in texts]


def test_reward_is_the_evaluation_models_number(answered):
    """The value is what the evaluation model says of the conversation and the answer."""
    model = FakeRewardModel()
    scores = Reward(Instruments(reward=model, optimised=FakeRewardModel())).score(
        [answered("why", "four"), answered("why", "")], {}
    )
    assert [s.value for s in scores] == [4.0, 0.0]
    assert [s.outcome for s in scores] == ["ok", "ok"]


def test_reward_sees_only_what_the_user_said(answered):
    """The model is shown the conversation as the user put it, not what a method added."""
    model = FakeRewardModel()
    item = answered("why", "so", prompt=Prompt("a", Chat.of("why")))
    Reward(Instruments(reward=model)).score([item], {})
    assert model.seen == [(Chat.of("why"), "so")]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scorer", [Reward, OptimisedReward])
def test_a_reward_that_is_no_number_is_a_failure(answered, scorer, bad):
    """A NaN or infinite reward has no value, is called failed, and spoils no other score."""
    model = FakeRewardModel(lambda text: bad if text == "bad" else 1)
    metric = scorer(Instruments(reward=model, optimised=model))
    scores = metric.score([answered("q", "good"), answered("q", "bad")], {})
    assert [(s.value, s.outcome) for s in scores] == [(1.0, "ok"), (None, "failed")]
    assert str(bad) in scores[1].text


def test_the_optimised_reward_stands_alone_where_it_is_the_evaluation_reward():
    """With one model for both, only the column called optimised is computed."""
    one, two = FakeRewardModel(), FakeRewardModel()
    same, apart = Instruments(reward=one, optimised=one), Instruments(reward=one, optimised=two)
    assert "granted" in Reward(same).skip()
    assert OptimisedReward(same).skip() is None
    assert Reward(apart).skip() is None
    assert OptimisedReward(apart).skip() is None


@pytest.mark.parametrize("scorer", [Reward, OptimisedReward, Gold])
def test_without_its_instrument_a_scorer_says_why_it_is_skipped(scorer):
    """A scorer whose instrument the protocol does not name gives a reason."""
    assert scorer(Instruments()).skip()


def test_gold_keeps_the_traits_as_parts(answered):
    """The value is the gold reward; the traits are its parts; NaN is a failure."""

    def gold(chat, text):
        return {"gold": math.nan if not text else 2.0, "helpful": 1.5, "polite": 0.5}

    metric = Gold(Instruments(gold=gold))
    good, bad = metric.score([answered("q", "a"), answered("q", "")], {})
    assert metric.skip() is None
    assert (good.value, good.parts) == (2.0, {"helpful": 1.5, "polite": 0.5})
    assert (bad.value, bad.outcome) == (None, "failed")
