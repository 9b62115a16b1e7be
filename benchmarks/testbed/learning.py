"""What every training run here shares: encoding, batches and the loop."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.testbed.optimiser import optimisers
from harness.chat import Chat

Ids = list[int]
Progress = Callable[[float, str], None]
Example = TypeVar("Example", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Size:
    """Shape of a model and of its training run."""

    width: int
    layers: int
    steps: int
    tokens: int  # per step, padding included
    rate: float


class Encoder:
    """Turns conversations into ids; the same ids as the chat template gives."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.backend = tokenizer.backend_tokenizer
        self.roles = {
            role: tokenizer.convert_tokens_to_ids(f"<|{role}|>")
            for role in ("system", "user", "assistant")
        }
        self.bos, self.end = tokenizer.bos_token_id, tokenizer.eos_token_id

    def text(self, text: str) -> Ids:
        """Encode plain text."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def chat(self, chat: Chat) -> tuple[Ids, list[bool]]:
        """Encode a conversation; the flags mark what an assistant wrote, end of turn included."""
        ids, written = [self.bos], [False]
        for message in chat.messages:
            words = [*self.text(message.text), self.end]
            ids += [self.roles[message.role], *words]
            written += [False] + [message.role == "assistant"] * len(words)
        return ids, written


def batches(
    examples: Iterator[Example],
    tokens: int,
    rng: random.Random,
    length: Callable[[Example], int] = lambda example: len(example[0]),
) -> Iterator[list[Example]]:
    """Group examples of similar length into batches of about that many tokens.

    An example is a tuple; ``length`` is how many tokens it takes in a padded batch.
    """
    while True:
        chunk = sorted((next(examples) for _ in range(1024)), key=length)
        groups: list[list[Example]] = [[]]
        for example in chunk:
            if (len(groups[-1]) + 1) * length(example) > tokens:
                groups.append([])
            groups[-1].append(example)
        rng.shuffle(groups)
        yield from groups


def padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """Stack rows on the right-padded grid [rows, longest]."""
    width = max(len(row) for row in rows)
    return torch.tensor([list(row) + [fill] * (width - len(row)) for row in rows])


def fit(
    model: torch.nn.Module,
    size: Size,
    loss_of: Callable[[], torch.Tensor],
    progress: Progress,
    what: str,
) -> float:
    """Train with a short warm-up and a cosine; gives the mean loss of the last tenth."""
    steppers = optimisers(model, size.rate)
    warm = max(1, size.steps // 20)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            stepper,
            lambda step: min(
                (step + 1) / warm, 0.02 + 0.98 * (1 + math.cos(math.pi * step / size.steps)) / 2
            ),
        )
        for stepper in steppers
    ]
    model.train()
    tail: list[float] = []
    for step in range(size.steps):
        loss = loss_of()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper, schedule in zip(steppers, schedules, strict=True):
            stepper.step()
            stepper.zero_grad()
            schedule.step()
        if step >= size.steps * 0.9:
            tail.append(loss.item())
        if step % 10 == 0:
            progress(step / size.steps, f"{what}: loss {loss.item():.3f}")
    model.eval()
    return sum(tail) / len(tail)


def next_token_loss(
    model: LlamaForCausalLM, ids: torch.Tensor, written: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy (nats) on the tokens marked as written; padding is on the right."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    mask = written[:, 1:].bool()
    logits = model.lm_head(hidden[:, :-1][mask])
    return functional.cross_entropy(logits, ids[:, 1:][mask])
