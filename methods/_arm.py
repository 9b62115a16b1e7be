"""An autoregressive reward model: the policy with low-rank adapters, trained on pairs alone.

    r(x, y) = sum_t log pi_r(y_t | x, y_<t)
    L = -log s( beta_r [ log pi_r(y+|x) - log pi_r(y-|x) ] )        no reference model

One copy of the policy's weights serves both: the adapters are added while pi_r reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from harness.api import Lab, PlumblineError
from methods._adapters import LowRank, adapters_of, beside
from methods._preference_rows import Row

PREFIX = "base_model.model."


@dataclass(frozen=True)
class Recipe:
    """How adapters are trained: AdamW, cosine after a warm-up of a tenth of the steps."""

    beta: float
    learning_rate: float
    rank: int
    alpha: int
    epochs: int
    batch: int
    together: int
    seed: int

    @property
    def scale(self) -> float:
        """Give what the adapters' product is multiplied by."""
        return self.alpha / self.rank


class Adapted:
    """A body whose adapters are on while it is called, and off otherwise."""

    def __init__(self, net: Any, adapters: Mapping[str, LowRank]) -> None:
        self.net, self.adapters = net, adapters
        self.config = net.config

    def parameters(self) -> Iterator[nn.Parameter]:
        """Give the weights, for those who ask where they are."""
        found: Iterator[nn.Parameter] = self.net.parameters()
        return found

    def __call__(self, **inputs: Any) -> Any:
        """Run the body."""
        with beside(self.net, self.adapters):
            return self.net.base_model(**inputs)


def fresh(net: nn.Module, recipe: Recipe) -> dict[str, Tensor]:
    """Draw adapters for every linear module of the body: tensors by PEFT's names, B being 0."""
    rng = torch.Generator().manual_seed(recipe.seed)
    body = {id(m) for m in net.base_model.modules()}  # type: ignore[union-attr]
    found: dict[str, Tensor] = {}
    for path, module in net.named_modules():
        if isinstance(module, nn.Linear) and id(module) in body:
            bound = module.in_features**-0.5
            down = torch.rand(recipe.rank, module.in_features, generator=rng) * 2 - 1
            found[f"{PREFIX}{path}.lora_A.weight"] = down * bound
            found[f"{PREFIX}{path}.lora_B.weight"] = torch.zeros(module.out_features, recipe.rank)
    if not found:
        raise PlumblineError(f"{type(net).__name__} has no linear module to put adapters on")
    return found


def reward(net: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
    """Give sum_t log pi(y_t | x, y_<t) of each answer under the network as it is: [answers]."""
    texts = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    longest = max(map(len, texts))
    device = next(net.parameters()).device
    ids = torch.tensor([[*t, *[0] * (longest - len(t))] for t in texts], device=device)
    mask = torch.arange(longest) < torch.tensor([len(t) for t in texts])[:, None]
    drawn = mask.clone()
    for row, prompt in enumerate(prompts):
        drawn[row, : len(prompt)] = False
    logits = net(input_ids=ids, attention_mask=mask.long().to(device)).logits[:, :-1].float()
    said = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    found: Tensor = (said * drawn[:, 1:].to(device)).sum(-1)
    return found


def loss_of(net: Any, rows: Sequence[Row], beta: float) -> Tensor:
    """Give the mean loss of some pairs."""
    prompts = [row.prompt for row in rows]
    both = reward(net, [*prompts, *prompts], [r.chosen for r in rows] + [r.rejected for r in rows])
    good, bad = both.chunk(2)
    return -logsigmoid(beta * (good - bad)).mean()


def told(lab: Lab, rows: Sequence[Row], together: int) -> float:
    """Give the share of pairs whose better answer is the likelier, under the network as it is."""
    right = 0
    with torch.no_grad():
        for start in range(0, len(rows), together):
            part = rows[start : start + together]
            prompts = [row.prompt for row in part]
            answers = [row.chosen for row in part] + [row.rejected for row in part]
            good, bad = reward(lab.model.net, [*prompts, *prompts], answers).chunk(2)
            right += int((good > bad).sum())
            lab.model.ledger.count("arm", sum(row.tokens for row in part))
    return right / len(rows)


def train(lab: Lab, rows: Sequence[Row], recipe: Recipe) -> tuple[dict[str, Tensor], list[float]]:
    """Fit adapters; give them and the loss of every step.

    Raises PlumblineError where the loss is no longer finite.
    """
    net = lab.model.net
    tensors = fresh(net, recipe)
    leaves = {name: t.to(lab.model.device).requires_grad_() for name, t in tensors.items()}
    optimiser = torch.optim.AdamW(leaves.values(), lr=recipe.learning_rate, weight_decay=0.0)
    steps = recipe.epochs * -(-len(rows) // recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _rate(s, steps))
    rng, losses = torch.Generator().manual_seed(recipe.seed), []
    with torch.enable_grad():
        for _ in range(recipe.epochs):
            order = torch.randperm(len(rows), generator=rng).tolist()
            for start in range(0, len(order), recipe.batch):
                some = [rows[i] for i in order[start : start + recipe.batch]]
                optimiser.zero_grad()
                losses.append(_step(lab, some, recipe, leaves))
                optimiser.step()
                schedule.step()
                if not losses[-1] < float("inf"):
                    raise PlumblineError(f"genarm: training diverged, the loss is {losses[-1]}")
    return {name: leaf.detach().cpu().contiguous() for name, leaf in leaves.items()}, losses


def _step(lab: Lab, rows: Sequence[Row], recipe: Recipe, leaves: Mapping[str, Tensor]) -> float:
    total = 0.0
    for start in range(0, len(rows), recipe.together):
        part = rows[start : start + recipe.together]
        with beside(lab.model.net, adapters_of(leaves, recipe.scale, lab.model.device)):
            loss = loss_of(lab.model.net, part, recipe.beta) * len(part) / len(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
        lab.model.ledger.count("arm", sum(row.tokens for row in part))
    return total


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * share))))
