"""DPO and its kin on little data: low-rank adapters tuned on preference pairs (TRL, PEFT).

Rafailov et al. 2023, "Direct Preference Optimization", arXiv 2305.18290.  The losses are listed
in methods/_preference_training.py; ``sigmoid_norm`` is LN-DPO (arXiv 2407.15229).

How little data is the row's affair, as for every method that learns: ``dpo(fraction=0.05)``
takes the first 5 % of the protocol's pairs in the order of the fit's seed, so that smaller sets
lie inside larger ones.  The base model with its adapters off is the reference.  A fit stores the
adapters under PEFT's names; while decoding they are added to the weights and taken off again.

Ours: the learning rate left open is LEARNING x WIDTH / the model's width, since the rates on
record are those of models 4096 wide; prompts are encoded as for decoding; pairs that do not fit
are left out and counted, never cut; ``strength`` scales the adapters when they are applied.
Deviations and figures: methods/cards/dpo.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

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
    Steering,
    above,
    at_least,
)
from methods._adapters import adapters_of, beside, merged
from methods._preference_rows import Row, rows_of, shuffled_labels, usable
from methods._preference_training import Loss, Recipe, Trained, train
from methods._trajectories import scratch

BETAS: dict[Loss, float] = {
    "sigmoid": 0.1,
    "sigmoid_norm": 5.0,  # of a mean per token, so some two hundred times less steep
    "kto": 0.1,
    "ipo": 0.1,
    "robust": 0.1,
    "bco": 0.1,
}
LEARNING, WIDTH = 5e-5, 4096
FEW, PLENTY = 3, 2000  # epochs on little data; pairs from which one is enough
HELD = 256  # development pairs that the tuned model is judged on
TEXTS = 8  # of them read together
DOUBT = 0.55  # share of held-out pairs told apart, below which a fit warns


@dataclass(frozen=True)
class Dpo(Method):
    """Tunes adapters on the pairs it is given, and decodes with them.

    beta           None is the loss's usual one.
    flips          rate of flipped labels that ``robust`` allows for.
    learning_rate  None is by the model's width.
    rank, alpha    of the adapters, on every linear module but the head.
    epochs         None is 3 on little data and 1 from PLENTY pairs on.
    batch          pairs a step; ``together`` of them in a pass.
    max_length     of prompt and answer, in tokens; longer pairs are left out.  0: the model's.
    precompute     read the base model's log-probabilities once; changes no result.
    strength       what the adapters are multiplied by; 0 is the base model.
    merge          add the adapters to the weights; otherwise beside them, without a copy.
    ablation       shuffled: a coin is tossed for each pair's labels.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs", "gradients"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "beta": (0.01, 0.1, 0.3),
        "learning_rate": (5e-6, 5e-5, 5e-4, 1.6e-3, 5e-3),
        "strength": (0.5, 1.0, 1.5),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"strength": 0.0}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "ln_dpo": {"loss": "sigmoid_norm"},
        "robust_dpo": {"loss": "robust"},
        **{loss: {"loss": loss} for loss in ("kto", "ipo", "bco")},
    }

    loss: Loss = "sigmoid"
    beta: float | None = None
    flips: float = 0.1
    learning_rate: float | None = None
    rank: int = 16
    alpha: int = 16
    epochs: int | None = None
    batch: int = 32
    together: int = 8
    max_length: int = 0
    precompute: bool = True
    strength: float = 1.0
    merge: bool = True
    ablation: Literal["none", "shuffled"] = "none"

    def __post_init__(self) -> None:
        at_least(self, rank=1, alpha=1, epochs=1, batch=1, together=1, max_length=0)
        above(self, beta=0, learning_rate=0)
        if not 0 <= self.flips < 0.5:
            raise PlumblineError(f"dpo.flips is {self.flips}; it must lie in [0, 0.5)")
        if self.batch % min(self.batch, self.together):
            raise PlumblineError(
                f"dpo.batch is {self.batch} and dpo.together {self.together}; "
                "the second must divide the first"
            )

    def recipe(self, width: int, seed: int, pairs: int) -> Recipe:
        """Give how the adapters are trained, for a model of this width and so many pairs."""
        return Recipe(
            loss=self.loss,
            beta=BETAS[self.loss] if self.beta is None else self.beta,
            flips=self.flips if self.loss == "robust" else 0.0,
            learning_rate=self.learning_rate or LEARNING * WIDTH / width,
            rank=self.rank,
            alpha=self.alpha,
            epochs=self.epochs or (FEW if pairs < PLENTY else 1),
            batch=self.batch,
            together=min(self.batch, self.together),
            precompute=self.precompute,
            seed=seed,
        )

    def fit(self, lab: Lab) -> Fitted:
        """Tune the adapters, and see whether held-out pairs are told apart."""
        if self.strength == 0:
            return Fitted()
        _alone(lab.left)
        rows, dropped = usable(lab, self.max_length, "dpo")
        if self.ablation == "shuffled":
            rows = shuffled_labels(rows, lab.seed)
        width = lab.model.net.config.get_text_config(decoder=True).hidden_size
        recipe = self.recipe(width, lab.seed, len(rows))
        with scratch(lab) as folder:
            trained = train(lab, rows, recipe, folder / "trl")
        return Fitted(trained.tensors, self._facts(lab, rows, dropped, recipe, trained))

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Put the adapters on while decoding, and take them off again."""
        if not fitted.tensors or self.strength == 0:
            return Steering()
        scale = self.strength * self.alpha / self.rank
        adapters = adapters_of(fitted.tensors, scale, kit.model.device)
        return Steering(weights=partial(merged if self.merge else beside, kit.model.net, adapters))

    def _facts(
        self,
        lab: Lab,
        rows: Sequence[Row],
        dropped: Mapping[str, int],
        recipe: Recipe,
        trained: Trained,
    ) -> dict[str, Json]:
        held, _ = rows_of(lab, lab.dev[:HELD], self.max_length)
        tuned = self.steer(lab, Fitted(trained.tensors)).weights
        found: dict[str, Json] = {}
        if held and tuned is not None:
            margins = held_margins(lab, held, tuned)
            right = float((margins > 0).double().mean())
            found["held_out"] = {
                "pairs": len(held),
                "accuracy": round(right, 4),
                "margin": round(float(margins.mean()), 4),
            }
            if right < DOUBT:
                found["warnings"] = [
                    f"the tuned model tells {right:.0%} of held-out pairs apart; half is luck"
                ]
        return {
            "pairs": len(rows),
            "left_out": dict(dropped),
            "epochs": recipe.epochs,
            "steps": trained.steps,
            "beta": recipe.beta,
            "learning_rate": recipe.learning_rate,
            "loss": [round(loss, 6) for loss in trained.losses],
            "lora": {"r": self.rank, "lora_alpha": self.alpha},
            **found,
        }


def held_margins(lab: Lab, rows: Sequence[Row], tuned: Callable[[], object]) -> Tensor:
    """Give h(y+) - h(y-) of each row: [rows], h the tuned less the base log-probability."""
    base = answer_logprobs(lab, rows)
    with tuned():  # type: ignore[attr-defined]
        now = answer_logprobs(lab, rows)
    good, bad = (now - base).chunk(2)
    return good - bad


@torch.no_grad()
def answer_logprobs(lab: Lab, rows: Sequence[Row]) -> Tensor:
    """Give log p(answer | prompt), preferred answers first: [2 rows], float64 on the CPU."""
    model = lab.model
    texts = [(r.prompt, r.chosen) for r in rows] + [(r.prompt, r.rejected) for r in rows]
    order = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
    out = torch.zeros(len(texts), dtype=torch.float64)
    for start in range(0, len(order), TEXTS):
        batch = order[start : start + TEXTS]
        longest = sum(map(len, texts[batch[0]]))
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, number in enumerate(batch):
            whole = [*texts[number][0], *texts[number][1]]
            ids[row, : len(whole)] = torch.tensor(whole)
            mask[row, : len(whole)] = 1
        logits = model.forward(
            ids.to(model.device),
            mask=mask.to(model.device),
            positions=torch.arange(longest, device=model.device).expand(len(batch), longest),
            tokens=int(mask.sum()),
            keep=0,
        )
        for row, number in enumerate(batch):
            prompt, answer = texts[number]
            mine = logits[row, len(prompt) - 1 : len(prompt) + len(answer) - 1].log_softmax(-1)
            said = torch.tensor(answer, device=mine.device).unsqueeze(-1)
            out[number] = mine.gather(-1, said).double().sum().cpu()
    return out


def _alone(left: Steering) -> None:
    """Refuse left neighbours that adapters cannot be tuned behind."""
    odd = sorted(left.touches - {"prompt", "stop", "noise"})
    if odd:
        raise PlumblineError(
            f"dpo tunes the model itself, so what stands to its left may change the prompt only, "
            f"and it changes {', '.join(odd)}; write dpo first: dpo+..."
        )
