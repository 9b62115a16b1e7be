"""Controlled decoding: tokens or blocks are chosen by a learned value of the unfinished text.

    V*(s) = E_{y ~ p(.|s)} [ r(x, y) ]

    token   z ~ p(z|s) exp(lambda V([s, z])) / Z          over the k likeliest tokens
    block   draw K blocks of M tokens from p(.|s), keep the one of largest V; repeat

Token-wise the rule maximises, at every step, lambda (E_pi V* - E_p V*) - KL(pi || p).

Mudgal et al. 2024, "Controlled Decoding from Language Models", arXiv 2310.17022 (ICML 2024).
RE-CONTROL (arXiv 2406.05954) calls it "CD prefix", and calls ARGS "CD"
(methods/reward_guided.py).

    scorer  how V is learned: fudge (every prefix meets the final reward) or q (it meets what
            is expected of the next token); methods/_prefix_values.py
    form    what V reads: hidden (a small network on the policy's own last state, at no second
            model's cost), value (a network of its own that reads each candidate), vocabulary
            (one that values all next tokens at once); methods/_second_network.py
    rule    token or block

Ours: rewards are standardised, so lambda is in nats per standard deviation of reward, and is
chosen on development prompts unless it is given.  Which layers, rates and sizes the authors
used is not published; methods/cards/controlled_decoding.md says what is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Lookahead,
    Method,
    Need,
    PlumblineError,
    Prompt,
    Rows,
    Search,
    Steering,
    TokenRule,
    above,
    at_least,
    guided,
)
from methods._choosing import Trials, may_try, prompts_of, tuned
from methods._prefix_values import HeadLearner, How, NetworkLearner, Recipe, quality, train
from methods._rollouts import Rollouts, rollouts, states_of
from methods._second_network import SecondNetwork
from methods._trajectories import repeated, scratch
from methods._value_head import ValueHead
from methods._value_training import Scale, doubts

STRENGTHS = (0.5, 1.0, 2.0, 4.0)  # lambda, tried on development prompts
USUAL = 1.0  # lambda where none may be tried
K = 10  # candidate tokens
HELD = 10  # one training prompt in ten is held out, to judge V

Form = Literal["hidden", "value", "vocabulary"]
Value = ValueHead | SecondNetwork


@dataclass(frozen=True)
class ControlledDecoding(Method):
    """Chooses tokens, or blocks, by a value of the text so far.

    strength       lambda; None is chosen on ``dev`` development prompts (rule=token), and is 1
                   where none may be answered.
    k              candidate tokens a step; 0 is the whole vocabulary, None is 10 or all there are.
    greedy         take the best candidate token instead of drawing one.
    width, block   K and M: candidate blocks, and tokens in each (rule=block).
    layers, hidden   size of V on the policy's states; hidden 0 is the model's own width.
    learning_rate  of Adam; None is 1e-3 for form=hidden and 3e-4 for a network.
    epochs, batch  passes over the answers, and answers a step.
    prompts        training prompts answered; 0 is all of them.  samples: answers to each.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs", "reward"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "strength": STRENGTHS,
        "k": (10, 20, 40),
        "width": (2, 4, 8),
        "block": (8, 16, 32),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"strength": 0.0, "k": 0}
    tries: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "cd_fudge_token": {"scorer": "fudge", "rule": "token"},
        "cd_fudge_block": {"scorer": "fudge", "rule": "block"},
        "cd_q_token": {"scorer": "q", "rule": "token"},
        "cd_q_block": {"scorer": "q", "rule": "block"},
        "recontrol_cd_prefix": {"scorer": "fudge", "rule": "token"},
    }

    scorer: How = "fudge"
    form: Form = "hidden"
    rule: Literal["token", "block"] = "token"
    strength: float | None = None
    k: int | None = None
    greedy: bool = False
    width: int = 4
    block: int = 16
    layers: Literal[2, 3] = 3
    hidden: int = 0
    learning_rate: float | None = None
    epochs: int = 5
    batch: int = 32
    prompts: int = 0
    samples: int = 1
    dev: int = 64

    def __post_init__(self) -> None:
        at_least(self, k=0, width=1, block=1, prompts=0, samples=1, dev=1)
        at_least(self, hidden=0, epochs=1, batch=1)
        above(self, learning_rate=0)

    def unused(self) -> frozenset[str]:
        """Name the fields of the other rule."""
        token, block = {"strength", "k", "greedy"}, {"width", "block"}
        return frozenset(block if self.rule == "token" else token)

    @property
    def idle(self) -> bool:
        """Say whether V is never asked for: a strength of 0, or one block to choose from."""
        return self.strength == 0 if self.rule == "token" else self.width == 1

    @property
    def recipe(self) -> Recipe:
        """How V is trained."""
        rate = self.learning_rate or (1e-3 if self.form == "hidden" else 3e-4)
        return Recipe(self.scorer, rate, self.epochs, self.batch)

    # --------------------------------------------------------------------- fit

    def fit(self, lab: Lab) -> Fitted:
        """Answer the training prompts, learn V from the rewards, choose lambda."""
        self._refuse(lab)
        if self.idle:
            return Fitted()
        prompts = prompts_of(lab.pairs, self.prompts, "value")
        held = len(prompts) // HELD
        if not held:
            raise PlumblineError(
                f"controlled_decoding needs {HELD} training prompts or more; there are "
                f"{len(prompts)}"
            )
        told = rollouts(lab, repeated(prompts[held:], self.samples))
        scale = Scale.of(told.rewards)
        value, losses = self._learnt(lab, told, scale)
        facts = self._judged(lab, value, prompts[:held], scale)
        strength, chosen = self._chosen(lab, value)
        warnings = [*facts.pop("warnings"), *chosen.pop("warnings", [])]
        return Fitted(
            tensors=value.tensors(),
            facts={
                "strength": strength,
                "answers": len(told),
                "empty_answers": told.empty,
                "reward_mean": scale.mean,
                "reward_std": scale.std,
                "loss": [round(loss, 5) for loss in losses],
                "warnings": warnings,
                **facts,
                **chosen,
            },
        )

    def _learnt(self, lab: Lab, told: Rollouts, scale: Scale) -> tuple[Value, list[float]]:
        """Train V in its form."""
        if self.form != "hidden":
            network = SecondNetwork.of(lab, self.form)
            learner = NetworkLearner(network, told, lab.model.net)
            losses = train(learner, self.recipe, scale, lab.seed)
            return network.requires_grad_(False), losses
        with scratch(lab) as folder:
            shards = states_of(lab, told, folder, "train")
            width = shards.load(0).states.shape[1]
            rng = torch.Generator().manual_seed(lab.seed)
            drawn = ValueHead.drawn(width, self.hidden or width, self.layers, rng)
            head = HeadLearner(drawn, shards, lab.model.device)
            losses = train(head, self.recipe, scale, lab.seed)
        return head.head, losses

    def _judged(
        self, lab: Lab, value: Value, prompts: Sequence[Prompt], scale: Scale
    ) -> dict[str, Json]:
        """Say how much of the final reward V knows, at shares of answers it has not seen."""
        told = rollouts(lab, prompts)
        if isinstance(value, SecondNetwork):
            found = [
                value.values([chat], [answer])
                for chat, answer in zip(told.chats, told.answers, strict=True)
            ]
            values = torch.cat(found).cpu()
        else:
            with scratch(lab) as folder:
                shards = states_of(lab, told, folder, "held")
                parts = [shards.load(i).states for i in range(len(shards.files))]
            values = value(torch.cat(parts).to(value.first)).cpu()
        r_squared, error = quality(values, told.lengths, scale(told.rewards))
        return {
            "r_squared": {share: round(v, 4) for share, v in r_squared.items()},
            "r_squared_error": round(error, 4),
            "warnings": doubts(r_squared, error, len(told)),
        }

    def _chosen(self, lab: Lab, value: Value) -> tuple[float, dict[str, Json]]:
        """Give lambda as it is set, or as development prompts prefer it."""
        if self.strength is not None or self.rule == "block":
            return self.strength or 0.0, {}
        if not may_try(lab):
            return USUAL, {}
        trials = Trials(lab, tuned(lab, self.dev, lab.pairs))
        best = trials.best(
            [({"strength": s}, partial(self._steering, lab, value, s)) for s in STRENGTHS]
        )
        return STRENGTHS[best], trials.facts()

    # ------------------------------------------------------------------- steer

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Choose tokens or blocks by V."""
        self._refuse(kit)
        if self.idle:
            return self._unguided(kit)
        if self.form == "hidden":
            head = ValueHead.of(fitted.tensors).to(kit.model.device)
            return self._steering(kit, head, float(fitted.facts["strength"]))
        network = SecondNetwork.of(kit, self.form, fitted.tensors)
        return self._steering(kit, network, float(fitted.facts["strength"]))

    def _steering(self, kit: Kit, value: Value, strength: float) -> Steering:
        if self.rule == "block":
            if isinstance(value, ValueHead):
                by_state = partial(of_states, value)
                return Steering(search=Search(self.width, by_state, self.block, reads=True))
            return Steering(search=Search(self.width, partial(of_texts, value), self.block))
        rule = TokenRule(strength, self._candidates(kit), self.greedy)
        if isinstance(value, ValueHead):
            return Steering(lookahead=Lookahead(rule, lambda states: value(states.float())))
        return Steering(logits=(guided(rule, value.bonus(kit)),))

    def _unguided(self, kit: Kit) -> Steering:
        """Truncate as the rule does, and choose nothing."""
        k = self._candidates(kit)
        if self.rule == "block" or not (k or self.greedy):
            return Steering()
        rule = TokenRule(0.0, k, self.greedy)
        return Steering(logits=(guided(rule),))

    def _candidates(self, kit: Kit) -> int:
        return min(K, kit.model.vocabulary) if self.k is None else self.k

    def _refuse(self, kit: Kit) -> None:
        """Refuse more candidates than there are tokens, and blocks that are never full."""
        budget = kit.sampling.max_new_tokens
        if self.rule == "token":
            TokenRule(0.0, self._candidates(kit)).fits(kit.model.vocabulary)
        elif self.block > budget:
            raise PlumblineError(
                f"controlled_decoding.block is {self.block} tokens and an answer's budget "
                f"{budget}; at most {budget}, which chooses among whole answers"
            )


def of_states(head: ValueHead, rows: Rows) -> Tensor:
    """Score rows by V of the policy's state after their last token: [rows]."""
    assert rows.hidden is not None
    return head(rows.hidden.float())


def of_texts(network: SecondNetwork, rows: Rows) -> Tensor:
    """Score rows by a network that reads them whole: [rows]."""
    answers = rows.tokens()
    ends = torch.tensor([len(a) for a in answers]).cumsum(0) - 1
    return network.values(rows.asked(), answers)[ends.to(rows.origin.device)]
