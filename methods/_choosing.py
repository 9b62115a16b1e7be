"""Strengths are chosen on development prompts: short answers, scored by the granted reward.

Every candidate meets the same prompts under the same luck, so candidates are compared in
pairs.  The evaluation reward and the benchmarks' prompts are not seen.

    reward  the largest mean reward
    paper   the largest mean reward + diversity + coherence (RE-CONTROL's rule)

diversity = prod_{n=2..4} |distinct n-grams| / (|n-grams| + 1) over the words of an answer.
coherence = cosine of the policy's own mean final states over prompt and answer: the paper
uses a sentence encoder, which a protocol need not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.api import Chat, Json, Lab, PlumblineError, Preference, Prompt, Site, Steering

Rule = Literal["reward", "paper"]


@dataclass(frozen=True)
class Trial:
    """What came of answering the development prompts one way; means over prompts.

    coherence  0 where the rule does not ask for it: it costs a pass.
    """

    reward: float
    diversity: float
    tokens: float
    coherence: float = 0.0

    def score(self, rule: Rule) -> float:
        """Give what is to be as large as possible."""
        return self.reward + (self.diversity + self.coherence if rule == "paper" else 0.0)

    def to_json(self) -> dict[str, Json]:
        """Give the numbers, rounded: facts are read by people."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def prompts_of(pairs: Sequence[Preference], count: int, what: str) -> list[Prompt]:
    """Give the first ``count`` different conversations of some pairs (0: all of them)."""
    chats = list(dict.fromkeys(pair.prompt for pair in pairs))
    chosen = chats[:count] if count else chats
    return [Prompt(f"{what} {i}", chat, cluster=str(i)) for i, chat in enumerate(chosen)]


def tuned(lab: Lab, count: int, learnt: Sequence[Preference] = ()) -> list[Prompt]:
    """Give development prompts, without those of ``learnt`` as long as others are left.

    Raises PlumblineError where the protocol grants no development pairs.
    """
    if not lab.dev:
        raise PlumblineError(
            "there are no development pairs to choose a strength on ([training] dev); "
            "give the strength, or add them to the protocol"
        )
    taken = {pair.prompt for pair in learnt}
    free = [pair for pair in lab.dev if pair.prompt not in taken]
    return prompts_of(free or lab.dev, count, "dev")


def tried(lab: Lab, prompts: Sequence[Prompt], steering: Steering, rule: Rule) -> Trial:
    """Answer the prompts under a steering, on top of the left neighbours', and measure."""
    decoded = lab.generate(prompts, steering=lab.left + steering)
    chats, texts = [p.chat for p in prompts], [d.text for d in decoded]
    rewards = lab.reward.score(chats, texts)
    if not all(math.isfinite(r) for r in rewards):
        bad = next(c for c, r in zip(chats, rewards, strict=True) if not math.isfinite(r))
        raise PlumblineError(
            f"reward model {lab.reward.name} gives NaN or infinity for an answer to "
            f"{bad.last_user[:60]!r}"
        )
    return Trial(
        reward=sum(rewards) / len(rewards),
        diversity=sum(map(diversity, texts)) / len(texts),
        tokens=sum(len(d.tokens) for d in decoded) / len(decoded),
        coherence=coherence(lab, [c.last_user for c in chats], texts) if rule == "paper" else 0.0,
    )


def diversity(text: str) -> float:
    """Give the product over n = 2, 3, 4 of the share of new n-grams; 0 for three words or fewer."""
    words = text.split()
    share = 1.0
    for n in (2, 3, 4):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        share *= len(set(grams)) / (len(grams) + 1)
    return share


def coherence(lab: Lab, asked: Sequence[str], texts: Sequence[str]) -> float:
    """Give the mean cosine of the policy's mean states over question and answer, 0 where empty."""
    model = lab.model
    room = model.context - 8
    ids = [model.encode_answer(Chat(), text)[:room] for text in (*asked, *texts)]
    found: dict[int, Tensor] = {}
    bare = [Chat.verbatim("")] * len(ids)
    for batch in lab.record(bare, ids, [Site.final()], at="mean", steering=Steering()):
        states = batch.states[Site.final()]
        found |= {i: s.float().cpu() for i, s in zip(batch.texts, states, strict=True)}
    vectors = torch.stack([found[i] for i in range(len(ids))]).nan_to_num()
    cosines = torch.cosine_similarity(vectors[: len(asked)], vectors[len(asked) :])
    return float(cosines.mean())


def may_try(lab: Lab) -> bool:
    """Say whether the lab has a reward to choose by and evaluations left to choose with."""
    try:
        return lab.reward is not None and lab.budget.left != 0
    except PlumblineError:
        return False


Candidate = tuple[Mapping[str, Json], Callable[[], Steering]]  # what it is called, how it steers


class Trials:
    """Candidates tried on one set of development prompts, the first being to do nothing.

    lines    what was tried and what came of it, in order.
    """

    def __init__(self, lab: Lab, prompts: Sequence[Prompt], rule: Rule = "reward") -> None:
        self.lab, self.prompts, self.rule = lab, prompts, rule
        self.nothing = tried(lab, prompts, Steering(), rule)
        self.lines: list[dict[str, Json]] = [{"unsteered": True} | self.nothing.to_json()]
        self.scores: list[float] = []

    def best(self, candidates: Sequence[Candidate]) -> int:
        """Try these too; give the number of the best of all so far, the first winning a tie."""
        for name, steer in candidates:
            trial = tried(self.lab, self.prompts, steer(), self.rule)
            self.lines.append(dict(name) | trial.to_json())
            self.scores.append(trial.score(self.rule))
        return self.scores.index(max(self.scores))

    def facts(self) -> dict[str, Json]:
        """Say what was tried, and warn where nothing helped."""
        helped = max(self.scores) > self.nothing.score(self.rule)
        said = [] if helped else [f"no edit raised the {self.rule} of the development prompts"]
        return {
            "chosen_by": self.rule,
            "dev_prompts": len(self.prompts),
            "trials": self.lines,
            "warnings": said,
        }
