"""A second language model with the policy's vocabulary, read beside it: log pi'(z | x, y_<t).

It reads the user's words in its own chat template, then the policy's own tokens as they are
drawn, from a cache of its own.  A method's additions to the prompt never reach it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.api import Companion, Kit, PlumblineError, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.api import Chat
    from harness.engine.model import Model

LogP = Callable[[Step], Tensor]  # step -> [rows, vocabulary] log-probabilities


def role(kit: Kit, name: str, method: str) -> LogP:
    """Read the protocol's model ``[models.NAME]`` beside the policy; "policy" is the bare policy.

    Raises PlumblineError as ``named`` does.
    """
    other = named(kit, name, method)
    return network(
        kit,
        other.net.base_model,
        other.net.get_output_embeddings(),
        other.encode,
        counted(kit, other, method),
        other.context,
        other.name,
    )


def counted(kit: Kit, other: Model, method: str) -> Callable[[int], None]:
    """Give what counts a model's tokens: under its role, or, of the policy, under the method's."""
    name = other.role if other is not kit.model else f"{method} policy"
    return lambda tokens: other.ledger.count(name, tokens)


def named(kit: Kit, name: str, method: str) -> Model:
    """Find the protocol's model ``[models.NAME]``; "policy" is the policy.

    Raises PlumblineError for a role the protocol does not name, for a model with another
    vocabulary, and for one whose attention takes no mask of ours.
    """
    policy = kit.model
    if name == "policy":
        other = policy
    else:
        try:
            other = kit.models[name]
        except KeyError:
            raise PlumblineError(
                f"{method}: the protocol names no model {name!r}; add a section [models.{name}]"
            ) from None
    if other.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise PlumblineError(
            f"{method}: {other.name} and {policy.name} have different vocabularies, so the "
            "probabilities of their tokens cannot be added"
        )
    if other.vocabulary < policy.vocabulary:
        raise PlumblineError(
            f"{method}: {other.name} knows {other.vocabulary} tokens and {policy.name} "
            f"{policy.vocabulary}; it must know at least as many"
        )
    if not other.masks_4d:
        raise PlumblineError(
            f"{method}: {other.name} has layers that do not attend to all earlier tokens, or no "
            "sdpa attention, so it cannot be read beside the policy"
        )
    return other


def network(
    kit: Kit,
    body: Any,
    head: Any,
    opened: Callable[[Chat], Sequence[int]],
    count: Callable[[int], None],
    context: int,
    name: str,
) -> LogP:
    """Read a causal LM, in two parts, beside the policy.

    opened   conversation -> the ids before the answer.
    context  tokens it can read; an answer that may not fit is refused before it is begun.
    """
    reader, size = Companion(body, opened, count), kit.model.vocabulary

    def log_p(step: Step) -> Tensor:
        if not step.rows.drawn:
            fit(step, opened, context, name)
        logits: Tensor = head(reader.state(step))[..., :size]
        return logits.float().log_softmax(-1)

    return log_p


def fit(step: Step, opened: Callable[[Chat], Sequence[int]], context: int, name: str) -> None:
    """Refuse a conversation that leaves a model no room for an answer."""
    rows = step.rows
    room = context - rows.ids.shape[1]
    for chat in {rows.chats[i] for i in rows.origin.tolist()}:
        if len(opened(chat)) > room:
            raise PlumblineError(
                f"{name} reads {context} tokens, too few for an answer to {chat.last_user[:60]!r}"
            )
