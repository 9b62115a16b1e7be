"""RE-CONTROL: edit the last hidden vector by gradient ascent on a learned value function.

    y_t ~ Softmax(W (o_t + u_t)),   u^(0) = 0,   u <- u + alpha dV/do(o_t + u)   n times

Kong et al. 2024, "Aligning Large Language Models with Representation Editing: A Control
Perspective", arXiv 2406.05954 (NeurIPS 2024).

    the state        o_t, what the lm_head reads (after the final norm); the cache is never
                     edited, so an edit acts through the token that it draws
    V                a small network on o_t (methods/_value_head.py)
    its data         the model's own answers to the training prompts, one reward each
                     (methods/_trajectories.py)
    its training     temporal differences, reward at the last state (methods/_value_training.py)
    alpha, n         chosen on development prompts (methods/_choosing.py)

Where the paper and its code part, the paper is followed; ``compat="official"`` does what
the published code does: the reward is put on the first state, the bootstrap keeps its
gradient, 16-bit training and ascent, raw rewards.  methods/cards/recontrol.md has the list.

Ours: lambda-returns (``trace``; 0 is the paper's TD(0), from which V learns little but at an
answer's end unless it is trained very long: the card has figures; 0.9 is what later work by
some of its authors is reported to use), float32, standardised rewards (alpha's unit is state^2
per reward), the exact ascent without autograd, and ``dose``: alpha named by what it does,
n alpha |dV/do| / |o| at the median state, because alpha itself carries over to no other model
or reward.
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
    HiddenEdit,
    Json,
    Kit,
    Lab,
    Method,
    Need,
    PlumblineError,
    Site,
    Steering,
    Step,
    above,
    at_least,
)
from methods._choosing import Rule, Trials, may_try, prompts_of, tuned
from methods._trajectories import collect, repeated, scratch
from methods._value_head import Ascent, ValueHead, ascend_in_place
from methods._value_training import Anchor, Bootstrap, Recipe, Scale, doubts, quality_of, train

DOSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # |u| / |o|, tried on development prompts
STEPS = (30, 10)  # n, likewise
USUAL = 0.4  # the dose where none may be tried
HELD = 10  # one training prompt in ten is held out, to judge V
LOOK = 4096  # held-out states that the length of an edit is measured on

Ablation = Literal["none", "shuffled", "random", "minus"]


@dataclass(frozen=True)
class Recontrol(Method):
    """Climbs a value network by ``n`` steps of ``alpha`` at every token.

    layers, hidden   size of V; hidden 0 is the model's own width.
    prompts          training prompts answered; 0 is all of them.
    samples          answers to each.
    alpha, n         the ascent; None is chosen on ``dev`` development prompts, and where none
                     may be answered, by a dose of 0.4.
    dose             alpha by the relative length of the edit it makes.
    choose           by mean reward, or by the paper's sum of three measures.
    ablation         shuffled: V learns from rewards dealt anew; random: u in a random
                     direction; minus: -u.  The length of u stays.
    trace            lambda of the returns V is regressed on; 0 is the paper's loss.
    compat           "official" sets the last five as the published code has them.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs", "reward"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "layers": (2, 3),
        "n": (10, 30, 100),
        "dose": DOSES,
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"n": 0}
    tries: ClassVar[bool] = True

    layers: Literal[2, 3] = 3
    hidden: int = 0
    learning_rate: float = 1e-3
    epochs: int = 10
    batch: int = 64
    prompts: int = 0
    samples: int = 1
    alpha: float | None = None
    n: int | None = None
    dose: float | None = None
    choose: Rule = "reward"
    dev: int = 64
    ablation: Ablation = "none"
    compat: Literal["paper", "official"] = "paper"
    trace: float = 0.9
    anchor: Anchor = "last"
    bootstrap: Bootstrap = "stopgrad"
    precision: Literal["fp32", "official_bf16"] = "fp32"
    edit_positions: Literal["last", "all"] = "last"

    def __post_init__(self) -> None:
        at_least(self, n=0, hidden=0, epochs=1, batch=1, prompts=0, samples=1, dev=1)
        above(self, learning_rate=0)
        if not 0 <= self.trace <= 1:
            raise PlumblineError(f"recontrol.trace is {self.trace}; it must lie in [0, 1]")
        paper = self.anchor == "last" and self.bootstrap == "stopgrad"
        if self.trace and not (paper or self.official):
            raise PlumblineError(
                "recontrol: anchor=first and bootstrap=residual know no returns; give trace=0 too"
            )
        if self.alpha is not None and self.dose is not None:
            raise PlumblineError("recontrol: give alpha or dose, not both; each sets the other")

    @property
    def official(self) -> bool:
        """Say whether the published code's switches are set."""
        return self.compat == "official"

    @property
    def half(self) -> bool:
        """Say whether training and ascent run in 16 bits."""
        return self.official or self.precision == "official_bf16"

    @property
    def everywhere(self) -> bool:
        """Say whether a prompt's every position is edited, to no effect but work."""
        return self.official or self.edit_positions == "all"

    def recipe(self, width: int) -> Recipe:
        """Give how V is trained, for a model of this width."""
        return Recipe(
            layers=self.layers,
            hidden=self.hidden or width,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch=self.batch,
            anchor="first" if self.official else self.anchor,
            bootstrap="residual" if self.official else self.bootstrap,
            trace=0.0 if self.official else self.trace,
            dtype=torch.bfloat16 if self.half else torch.float32,
        )

    def fit(self, lab: Lab) -> Fitted:
        """Answer the training prompts, learn V from the rewards, choose alpha and n."""
        if self.n == 0 or self.alpha == 0:
            return Fitted()
        prompts = prompts_of(lab.pairs, self.prompts, "value")
        held = len(prompts) // HELD
        if not held:
            raise PlumblineError(
                f"recontrol needs {HELD} training prompts or more; there are {len(prompts)}"
            )
        with scratch(lab) as folder:
            answered = collect(lab, repeated(prompts[held:], self.samples), folder, "train")
            judged = collect(lab, repeated(prompts[:held], self.samples), folder, "held")
            if not len(judged):
                raise PlumblineError(
                    "every held-out answer is empty; there is nothing to judge V on"
                )
            scale = Scale() if self.official else Scale.of(answered.rewards)
            constant = float(scale(answered.rewards).mean())
            learnt = answered.shuffled(lab.seed) if self.ablation == "shuffled" else answered
            width = answered.load(0).states.shape[1]
            head, losses = train(learnt, self.recipe(width), scale, lab.seed, lab.model.device)
            quality, error = quality_of(head, judged, scale, constant)
            states = judged.load(0).states[:LOOK].to(lab.model.device).float()
        alpha, n, chosen = self._chosen(lab, head, states)
        return Fitted(
            tensors=head.tensors(),
            facts={
                "alpha": alpha,
                "n": n,
                "answers": len(answered),
                "empty_answers": answered.empty + judged.empty,
                "reward_mean": scale.mean,
                "reward_std": scale.std,
                "loss": [round(loss, 5) for loss in losses],
                "r_squared": {share: round(value, 4) for share, value in quality.items()},
                "edit": _length(head, states, alpha, n),
                "r_squared_error": round(error, 4),
                "warnings": doubts(quality, error, len(judged)) + chosen.pop("warnings"),
                **chosen,
            },
        )

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Edit what the lm_head reads."""
        if not fitted.tensors:
            return Steering()
        head = ValueHead.of(fitted.tensors).to(kit.model.device)
        return self._steering(head, float(fitted.facts["alpha"]), int(fitted.facts["n"]))

    def _steering(self, head: ValueHead, alpha: float, n: int) -> Steering:
        change: Callable[[Tensor], Tensor]
        if self.half:
            change = partial(ascend_in_place, head.to(torch.float16), alpha=alpha, n=n)
        else:
            change = moved(Ascent.on(head, alpha, n), self.ablation)
        return Steering(hidden=(HiddenEdit(Site.final(), at_draws(change, self.everywhere)),))

    def _chosen(
        self, lab: Lab, head: ValueHead, states: Tensor
    ) -> tuple[float, int, dict[str, Json]]:
        """Give alpha and n as they are set, or as development prompts prefer them.

        Doses are tried at the first number of steps, the other numbers at the best dose: for
        a V without kinks only the product of alpha and n would count.
        """
        first, *others = STEPS if self.n is None else (self.n,)
        if self.alpha is not None:
            settings = [(self.alpha, first)]
        else:
            tried = DOSES if may_try(lab) else (USUAL,)
            doses = tried if self.dose is None else (self.dose,)
            settings = [(alpha_for(head, states, dose, first), first) for dose in doses]
        if not may_try(lab) or (len(settings) == 1 and not others):
            return *settings[0], {"warnings": []}
        trials = Trials(lab, tuned(lab, self.dev, lab.pairs), self.choose)

        def best(some: Sequence[tuple[float, int]]) -> int:
            return trials.best(
                [
                    (
                        {"alpha": a, "n": n, "dose": _length(head, states, a, n)["relative"]},
                        partial(self._steering, head, a, n),
                    )
                    for a, n in some
                ]
            )

        alpha, _ = settings[best(settings)]
        further = [(alpha if self.alpha is not None else alpha * first / n, n) for n in others]
        settings += further
        return *settings[best(further)], trials.facts()


def alpha_for(head: ValueHead, states: Tensor, dose: float, n: int) -> float:
    """Give the alpha whose n steps, were V linear, move the median state by ``dose`` of itself.

    Raises PlumblineError where V is flat at the median state.
    """
    slope = head.gradient(states).norm(dim=-1) / states.norm(dim=-1)
    median = float(slope.median())
    if not median > 0:
        raise PlumblineError("the value network is flat at most states: there is no way uphill")
    return dose / (n * median)


def moved(climb: Ascent, ablation: Ablation) -> Callable[[Tensor], Tensor]:
    """Give what turns states [rows, width] into edited ones; u is added once, in float32."""
    if ablation == "random":
        rng = torch.Generator().manual_seed(0)
        aside = torch.randn(climb.head.first.shape[1], generator=rng)
        aside = (aside / aside.norm()).to(climb.head.first.device)

    def change(states: Tensor) -> Tensor:
        u = climb(states)
        if ablation == "minus":
            u = -u
        elif ablation == "random":
            u = u.norm(dim=-1, keepdim=True) * aside
        return (states.float() + u).to(states.dtype)

    return change


def at_draws(
    change: Callable[[Tensor], Tensor], everywhere: bool = False
) -> Callable[[Tensor, Step], Tensor]:
    """Edit only the positions that draw a token: V is not run on the others.

    change  states [rows, width] -> the same, edited.
    """

    def edit(hidden: Tensor, step: Step) -> Tensor:
        if hidden.shape[1] == 1 or everywhere:
            return change(hidden.flatten(0, 1)).view_as(hidden)
        where = step.draws & step.real
        out = hidden.clone()
        out[where] = change(hidden[where])
        return out

    return edit


def _length(head: ValueHead, states: Tensor, alpha: float, n: int) -> dict[str, float]:
    """Measure the edit on held-out states: |u|/|o| (median), the gain in V, how often V rises."""
    u = Ascent.on(head, alpha, n)(states)
    gain = head(states + u) - head(states)
    return {
        "relative": round(float((u.norm(dim=-1) / states.norm(dim=-1)).median()), 5),
        "value_gain": round(float(gain.mean()), 5),
        "improved": round(float((gain >= 0).float().mean()), 4),
    }
