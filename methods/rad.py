"""RAD: a small causal reward model, clamped to [0, 1], weighs the k likeliest tokens.

    logit'(z) = logit(z) + beta clamp(r([s, z]), 0, 1)      for z among the k likeliest
    z ~ softmax(logit')                                     always sampled

    L = sum_t t (r_t - y)^2 / (n (n + 1) / 2)               y = 1 preferred, 0 not

Deng and Raffel 2023, "Reward-Augmented Decoding", arXiv 2310.09520 (EMNLP 2023).  The reward
model is read on every prefix, so it is trained on every prefix, later ones counting more; it
looks backwards only, so what it has read is kept.

Labels are the sides of the preference pairs; the model is the policy's body, trained further,
with a new head (methods/_second_network.py): the published one is GPT-2-small on labelled
texts.  The published code decodes each candidate to text and tokenises it anew, and copies its
cache k times; here candidates are read as ids, k to a row.  It reads the user's words and the
answer, never a method's additions.  methods/cards/rad.md has the list.

Ours: the right beta depends on how good the reward model is, so it is chosen on development
prompts unless it is given, and is the published 30 where nothing can be tried.  The learning rate
left open is RATE / the model's width: the published 2e-5 is of a model 768 wide and of texts by the
hundred thousand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import (
    Fitted,
    Json,
    Kit,
    Lab,
    Method,
    Need,
    PlumblineError,
    Preference,
    Steering,
    Step,
    TokenRule,
    above,
    at_least,
    finite,
    guided,
)
from methods._choosing import Trials, may_try, tuned
from methods._second_network import SecondNetwork

BETAS = (5.0, 10.0, 20.0, 30.0, 50.0)  # tried on development prompts
PUBLISHED = 30.0  # beta of the authors' code
RATE = 0.064  # learning rate times width
HELD = 10  # one pair in ten is held out, to say how often the better answer is told


@dataclass(frozen=True)
class Rad(Method):
    """Weighs ``k`` candidate tokens by ``beta`` times a clamped reward learned from pairs.

    beta     None is chosen on ``dev`` development prompts (0: all) by the granted reward.
    inverse  steer towards what is not preferred: 1 - r.
    learning_rate  None is by the model's width.
    batch    pairs a step.  pairs: how many are learned from; 0 is all.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs", "gradients"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "beta": BETAS,
        "k": (5, 10, 20, 40),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"beta": 0.0, "k": 0}
    tries: ClassVar[bool] = True

    beta: float | None = None
    k: int = 20
    inverse: bool = False
    learning_rate: float | None = None
    epochs: int = 1
    batch: int = 16
    pairs: int = 0
    dev: int = 64

    def __post_init__(self) -> None:
        finite(self, "beta")
        above(self, learning_rate=0)
        at_least(self, k=0, epochs=1, batch=1, pairs=0, dev=0)

    def fit(self, lab: Lab) -> Fitted:
        """Train the reward model; at beta = 0 there is nothing to train."""
        TokenRule(0.0, self.k).fits(lab.model.vocabulary)
        if self.beta == 0:
            return Fitted()
        usable = [p for p in lab.pairs if p.chosen and p.rejected and p.chosen != p.rejected]
        usable = usable[: self.pairs] if self.pairs else usable
        held = len(usable) // HELD
        if not held:
            raise PlumblineError(
                f"rad needs {HELD} preference pairs of different sides; there are {len(usable)} "
                f"among {len(lab.pairs)}"
            )
        network = SecondNetwork.of(lab, "value")
        losses = self._trained(lab, network, usable[held:])
        beta, tried = self._chosen(lab, network)
        facts = {
            "pairs": len(usable) - held,
            "left_out": len(lab.pairs) - len(usable),
            "steps": len(losses),
            "first_loss": round(losses[0], 5),
            "last_loss": round(sum(losses[-8:]) / len(losses[-8:]), 5),
            "held_out_accuracy": round(accuracy(lab, network, usable[:held]), 4),
            "beta": beta,
        }
        return Fitted(network.tensors(), facts | tried)

    def _chosen(self, lab: Lab, network: SecondNetwork) -> tuple[float, dict[str, Json]]:
        """Give beta as it is set, or as development prompts prefer it."""
        if self.beta is not None:
            return self.beta, {}
        if not may_try(lab) or not lab.dev:
            return PUBLISHED, {}
        trials = Trials(lab, tuned(lab, self.dev, lab.pairs))
        best = trials.best([({"beta": b}, partial(self._by, lab, network, b)) for b in BETAS])
        return BETAS[best], trials.facts()

    def _trained(
        self, lab: Lab, network: SecondNetwork, pairs: Sequence[Preference]
    ) -> list[float]:
        weights = list(network.parameters())
        for weight in weights:
            weight.requires_grad_()
        rate = self.learning_rate or RATE / len(network.base)
        optimiser = torch.optim.Adam(weights, lr=rate)
        rng, losses = torch.Generator().manual_seed(lab.seed), []
        with torch.enable_grad():
            for _ in range(self.epochs):
                order = torch.randperm(len(pairs), generator=rng).tolist()
                for start in range(0, len(order), self.batch):
                    some = [pairs[i] for i in order[start : start + self.batch]]
                    loss = cumulative_loss(*read(lab, network, some))
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    losses.append(float(loss.detach()))
                    if not losses[-1] < float("inf"):
                        raise PlumblineError(f"rad: training diverged, the loss is {losses[-1]}")
        network.requires_grad_(False)
        return losses

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Add the clamped reward to the candidates' log-probabilities."""
        rule = TokenRule(0.0, self.k).fits(kit.model.vocabulary)
        if self.beta == 0:
            return Steering(logits=(guided(rule),)) if self.k else Steering()
        network = SecondNetwork.of(kit, "value", fitted.tensors)
        return self._by(kit, network, fitted.facts["beta"] if self.beta is None else self.beta)

    def _by(self, kit: Kit, network: SecondNetwork, beta: float) -> Steering:
        reward = network.bonus(kit)

        def bonus(step: Step, candidates: Tensor) -> Tensor:
            r = reward(step, candidates).clamp(0.0, 1.0)
            return 1.0 - r if self.inverse else r

        return Steering(logits=(guided(TokenRule(beta, self.k), bonus),))


def read(
    lab: Lab, network: SecondNetwork, pairs: Sequence[Preference]
) -> tuple[Tensor, Tensor, Tensor]:
    """Read both sides, the end of turn included: r of every prefix, answers' lengths and labels.

    Gives [tokens], [answers], [answers]; preferred answers first.
    """
    model = lab.model
    texts = [p.chosen for p in pairs] + [p.rejected for p in pairs]
    chats = [p.prompt for p in pairs] * 2
    answers = [
        [*model.encode_answer(c, t), *model.ends[:1]] for c, t in zip(chats, texts, strict=True)
    ]
    found = network.values(chats, answers)
    lengths = torch.tensor([len(a) for a in answers], device=found.device)
    return found, lengths, (torch.arange(len(answers), device=found.device) < len(pairs)).float()


def cumulative_loss(found: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    """Give the mean over answers of sum_t w_t (r_t - y)^2, w_t = t / (n (n + 1) / 2)."""
    first = lengths.cumsum(0) - lengths
    t = torch.arange(len(found), device=found.device) - first.repeat_interleave(lengths) + 1
    n = lengths.repeat_interleave(lengths)
    weight = t / (n * (n + 1) / 2)
    missed = (found - labels.repeat_interleave(lengths)).square()
    return (weight * missed).sum() / len(lengths)


def accuracy(lab: Lab, network: SecondNetwork, pairs: Sequence[Preference]) -> float:
    """Give how often the preferred answer's last reward is the larger."""
    with torch.no_grad():
        found, lengths, _ = read(lab, network, pairs)
    last = found[lengths.cumsum(0) - 1]
    good, bad = last.chunk(2)
    return float((good > bad).double().mean())
