"""GenARM: a language model whose log-probability is a reward guides every token.

    r(x, y) = sum_t log pi_r(y_t | x, y_<t)
    log pi(z|s) = log p(z|s) + alpha log pi_r(z|s) - log Z             alpha = 1 / beta

Xu et al. 2024, "GenARM: Reward Guided Generation with Autoregressive Reward Model for
Test-time Alignment", arXiv 2410.08193 (ICLR 2025).

pi_r is trained on preference pairs by -log s(beta_r (log pi_r(y+) - log pi_r(y-))): DPO's loss
without a reference, from the policy on, with low-rank adapters (methods/_arm.py).  It gives all
next tokens their reward in one reading, so a token costs one token of each model.

The published decoder divides by the sum of weights and undoes it by a temperature of
1 / (1 + alpha); the plain sum at temperature 1 is the same.  pi_r reads the user's words and
the answer, never a method's additions.  methods/cards/genarm.md has the list.

Ours: the learning rate left open is RATE x WIDTH / the model's width, since the published rate is
of a 7B model, and a fit says how well pi_r tells development pairs that it never saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import (
    Fitted,
    Json,
    Kit,
    Lab,
    Method,
    Need,
    PlumblineError,
    Steering,
    Step,
    above,
    at_least,
    finite,
)
from methods._adapters import adapters_of, beside
from methods._arm import Adapted, Recipe, told, train
from methods._beside import network
from methods._preference_rows import rows_of, usable

RATE, WIDTH = 5e-4, 4096  # the published learning rate, and a 7B model's width
PAIRS = 128  # development pairs that are told apart, at most


@dataclass(frozen=True)
class GenArm(Method):
    """Adds ``alpha`` times the log-probabilities of a model trained on the pairs.

    beta           of the training loss (the paper's beta_r).
    learning_rate  None is by the model's width.
    rank, lora     size of the adapters, and their alpha: the change is lora / rank times B A.
    batch          pairs a step, pushed ``together`` at a time.
    max_length     of prompt and answer; longer pairs are left out and counted; 0: what fits.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs", "gradients"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "alpha": (0.25, 0.5, 1.0, 2.0),
        "beta": (0.05, 0.1),
        "learning_rate": (5e-4, 1.6e-3, 5e-3, 1.6e-2),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"alpha": 0.0}

    alpha: float = 1.0
    beta: float = 0.05
    learning_rate: float | None = None
    rank: int = 8
    lora: int = 16
    epochs: int = 1
    batch: int = 32
    together: int = 8
    max_length: int = 0

    def __post_init__(self) -> None:
        finite(self, "alpha")
        above(self, beta=0, learning_rate=0)
        at_least(self, rank=1, lora=1, epochs=1, batch=1, together=1, max_length=0)

    def fit(self, lab: Lab) -> Fitted:
        """Train pi_r; at alpha = 0 there is nothing to train."""
        if not self.alpha:
            return Fitted()
        lone = lab.after(
            Steering()
        )  # pi_r reads the user's words, whatever the left neighbours say
        assert isinstance(lone, Lab)
        rows, dropped = usable(lone, self.max_length, "genarm")
        width = lab.model.net.config.get_text_config(decoder=True).hidden_size
        rate = self.learning_rate or RATE * WIDTH / width
        recipe = Recipe(self.beta, rate, self.rank, self.lora, self.epochs,
                        self.batch, self.together, lab.seed)  # fmt: skip
        tensors, losses = train(lone, rows, recipe)
        facts = {
            "pairs": len(rows),
            "left_out": dropped,
            "learning_rate": rate,
            "steps": len(losses),
            "first_loss": round(losses[0], 5),
            "last_loss": round(sum(losses[-8:]) / len(losses[-8:]), 5),
        }
        return Fitted(tensors, facts | self._held(lone, tensors))

    def _held(self, lab: Lab, tensors: Mapping[str, Tensor]) -> dict[str, Json]:
        """Say how many development pairs pi_r tells apart, and how many the policy does."""
        learnt = {pair.prompt for pair in lab.pairs}
        unseen = [pair for pair in lab.dev if pair.prompt not in learnt][:PAIRS]
        rows, _ = rows_of(lab, unseen, self.max_length)
        if not rows:
            return {}
        before = told(lab, rows, self.together)
        scale = self.lora / self.rank
        with beside(lab.model.net, adapters_of(tensors, scale, lab.model.device)):
            after = told(lab, rows, self.together)
        doubt = "the reward tells development pairs apart no better than the model itself does"
        return {
            "dev_pairs": len(rows),
            "told_by_the_policy": round(before, 4),
            "told": round(after, 4),
            "warnings": [doubt] if after <= before else [],
        }

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Add pi_r to every next-token distribution."""
        if not self.alpha:
            return Steering()
        model = kit.model
        if not model.masks_4d:
            raise PlumblineError(
                f"genarm: {model.name} has layers that do not attend to all earlier tokens, or no "
                "sdpa attention, so it cannot be read beside itself"
            )
        adapters = adapters_of(fitted.tensors, self.lora / self.rank, model.device)
        log_r = network(
            kit,
            Adapted(model.net, adapters),
            model.net.get_output_embeddings(),
            model.encode,
            lambda tokens: model.ledger.count("arm", tokens),
            model.context,
            f"{model.name} (reward)",
        )

        def edit(logits: Tensor, step: Step) -> Tensor:
            return logits.log_softmax(-1) + self.alpha * log_r(step)

        return Steering(logits=(edit,))
