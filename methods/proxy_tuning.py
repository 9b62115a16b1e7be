"""Proxy-tuning: a model is steered by how tuning changed another one; contrastive decoding.

    proxy        log pi(z|s) = log p(z|s) + alpha (log p_expert(z|s) - log p_anti(z|s)) - log Z
    contrastive  log pi(z|s) = log p(z|s) - alpha log p_amateur(z|s) - log Z
                 for z with p(z|s) >= a max_z' p(z'|s), and no other z

Liu et al. 2024, "Tuning Language Models by Proxy", arXiv 2401.08565: a small tuned model and
its untuned self stand for the tuning of a large one.  Mitchell et al. 2023, "An Emulator for
Fine-tuning Large Language Models using Small Language Models", arXiv 2310.12962: the same sum,
derived from the reward that a tuned model implies.  Li et al. 2022, "Contrastive Decoding",
arXiv 2210.15097: what a weak model would say too is taken off, among plausible tokens.

expert, anti are roles of the protocol: ``[models.aligned]`` by default, and the bare policy
itself, from which the policy is an interpolation (alpha < 1) or extrapolation (alpha > 1) of
tuning.  A protocol with a small pair names them: ``expert=small_tuned``, ``anti=small``.  At
alpha = 1 with anti=policy the sum is the expert.

Each model reads the conversation in its own chat template; the drawn tokens are shared.
Probabilities are added at temperature 1, before the protocol's own temperature and filters.
The published code adds raw logits, which is the same distribution.  Contrastive decoding's
amateur has a temperature of its own in its authors' code; here it is 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import Fitted, Kit, Method, Need, PlumblineError, Steering, Step, finite
from methods._beside import role


@dataclass(frozen=True)
class ProxyTuning(Method):
    """Adds ``alpha`` times the difference of two other models' log-probabilities.

    expert     role of the tuned model; empty for none (contrastive decoding).
    anti       role of its untuned self, or of the amateur; "policy" is the bare policy.
    plausible  a: tokens less likely than this share of the likeliest one are ruled out; 0 for none.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"aligned"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "alpha": (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"alpha": 0.0}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "emulated_fine_tuning": {"alpha": 1.0},
        "contrastive_decoding": {"expert": "", "anti": "amateur", "plausible": 0.1},
    }

    alpha: float = 1.0
    expert: str = "aligned"
    anti: str = "policy"
    plausible: float = 0.0

    def __post_init__(self) -> None:
        finite(self, "alpha")
        if not 0 <= self.plausible <= 1:
            raise PlumblineError(
                f"proxy_tuning.plausible is {self.plausible}; it must lie in [0, 1]"
            )
        if not self.anti and not self.expert:
            raise PlumblineError(
                "proxy_tuning: neither expert nor anti is set; name one of the protocol's models"
            )

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Edit every next-token distribution."""
        floor = math.log(self.plausible) if self.plausible else -math.inf
        roles = ((self.expert, self.alpha), (self.anti, -self.alpha)) if self.alpha else ()
        parts = [(role(kit, name, "proxy_tuning"), c) for name, c in roles if name]

        def edit(logits: Tensor, step: Step) -> Tensor:
            log_p = logits.log_softmax(-1)
            likely = log_p >= log_p.amax(-1, keepdim=True) + floor
            total = log_p
            for other, weight in parts:
                total = total + weight * other(step)
            return torch.where(likely, total, -torch.inf)

        return Steering(logits=(edit,)) if parts or self.plausible else Steering()
