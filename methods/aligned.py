"""Aligned: the protocol's own aligned model in the policy's place; what steering is held against.

    y ~ p_aligned(. | x)

Not steering: a row to compare with.  Where it was run, tables give every method's Relative
Improvement, the share of this row's gain (AlignEZ, arXiv 2406.03642).

The conversation is laid out by the aligned model's own chat template.  What would end its
answers ends them here: the probability of its end tokens goes to the policy's.  Both must
share a vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import Chat, Fitted, Kit, Method, Need, PlumblineError, Steering, Step


@dataclass(frozen=True)
class Aligned(Method):
    """Answers by the model that the protocol names as ``[models.aligned]``."""

    needs: ClassVar[frozenset[Need]] = frozenset({"aligned"})

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Put the aligned network in the policy's place while a batch is computed."""
        policy, other = kit.model, kit.models["aligned"]
        if policy.tokenizer.get_vocab() != other.tokenizer.get_vocab():
            raise PlumblineError(
                f"aligned: {other.name} and {policy.name} have different vocabularies"
            )

        @contextmanager
        def exchanged() -> Iterator[None]:
            before, policy.net = policy.net, other.net
            try:
                yield
            finally:
                policy.net = before

        def laid_out(chats: Sequence[Chat]) -> Sequence[Chat]:
            return [Chat.verbatim(other.render(chat)) for chat in chats]

        foreign = [end for end in other.ends if end not in policy.ends]

        def ended(logits: Tensor, _: Step) -> Tensor:
            logits = logits.clone()
            both = [policy.ends[0], *foreign]
            logits[:, policy.ends[0]] = logits[:, both].logsumexp(-1)
            logits[:, foreign] = float("-inf")
            return logits

        same = policy.render(_PROBE) == other.render(_PROBE)
        return Steering(
            prompt=() if same else (laid_out,),
            weights=exchanged,
            logits=(ended,) if foreign and policy.ends else (),
        )


_PROBE = Chat.of("{user}", system="{system}").assistant("{answer}").user("{more}")
