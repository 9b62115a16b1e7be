"""A value network of its own: the policy's body, trained further, and a new head.

    value        V(s) = w . h(s) + b                          one number for a text
    vocabulary   V([s, z]) = W_z . h(s) + w . h(s) + b        a number for every next token

h(s) is the body's last state after reading s.  The network reads the user's words and the
answer in the policy's template: a method's additions to the prompt never reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from harness.api import Chat, Companion, Kit, Step

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = "value"  # what its tokens are counted under
Shape = Literal["value", "vocabulary"]


class SecondNetwork(nn.Module):
    """A body of the policy's kind with a scalar head and, for "vocabulary", a row per token.

    opened  conversation -> the ids before the answer.
    """

    def __init__(
        self, body: nn.Module, opened: Callable[[Chat], list[int]], width: int, rows: int
    ) -> None:
        super().__init__()
        self.body = body
        self.opened = opened
        like = next(body.parameters())
        self.base = nn.Parameter(like.new_zeros(width), requires_grad=False)
        self.bias = nn.Parameter(like.new_zeros(()), requires_grad=False)
        self.rows = nn.Parameter(like.new_zeros((rows, width)), requires_grad=False)

    @classmethod
    def of(
        cls, kit: Kit, shape: Shape, tensors: Mapping[str, Tensor] | None = None
    ) -> SecondNetwork:
        """Copy the policy's body; put the learnt weights in where they are given."""
        model = kit.model
        body = deepcopy(model.net.base_model)
        config = model.net.config.get_text_config(decoder=True)
        rows = model.vocabulary if shape == "vocabulary" else 0
        network = cls(body, model.encode, int(config.hidden_size), rows).eval()
        if tensors is not None:
            network.load_state_dict({name: t.to(model.device) for name, t in tensors.items()})
        return network

    def tensors(self) -> dict[str, Tensor]:
        """Give the weights by name, for storage."""
        return {name: t.detach().clone() for name, t in self.state_dict().items()}

    def __deepcopy__(self, memo: dict[int, object]) -> SecondNetwork:
        copy = SecondNetwork(deepcopy(self.body, memo), self.opened, len(self.base), len(self.rows))
        copy.load_state_dict(self.state_dict())
        return copy.eval()

    # ---------------------------------------------------------------- the head

    def value(self, states: Tensor) -> Tensor:
        """V at states [..., width]: [...]."""
        return (states @ self.base + self.bias).float()

    def row(self, states: Tensor) -> Tensor:
        """V([s, z]) for all z at states [..., width]: [..., vocabulary]."""
        return (states @ self.rows.T).float() + self.value(states)[..., None]

    # ------------------------------------------------------ beside the policy

    def beside(self, kit: Kit) -> Companion:
        """Give what reads along while the policy writes."""
        model = kit.model
        return Companion(self.body, self.opened, lambda tokens: model.ledger.count(ROLE, tokens))

    def bonus(self, kit: Kit) -> Callable[[Step, Tensor], Tensor]:
        """Give V([s, z]) for a step's candidates."""
        reader = self.beside(kit)
        if not len(self.rows):
            return lambda step, candidates: self.value(reader.states(step, candidates))
        return lambda step, candidates: self.row(reader.state(step)).gather(1, candidates)

    # ------------------------------------------------------------- whole texts

    def values(self, chats: Sequence[Chat], answers: Sequence[Sequence[int]]) -> Tensor:
        """V(y^t), t = 1 ... T, of every answer, end to end: [tokens]."""
        states, row, column = self._read(chats, answers)
        if not len(self.rows):
            return self.value(states[row, column])
        said = torch.tensor([z for a in answers for z in a], device=states.device)
        return self.row(states[row, column - 1]).gather(-1, said[:, None]).squeeze(-1)

    def ahead(
        self, chats: Sequence[Chat], answers: Sequence[Sequence[int]], policy: nn.Module
    ) -> Tensor:
        """What is to come after y^t, as this network sees it: [tokens]; void at t = T.

        With a row of values, their mean under the policy; otherwise V(y^{t+1}).
        """
        if not len(self.rows):
            return self.values(chats, answers).roll(-1)
        states, row, column = self._read(chats, answers)
        ids, mask = self._padded(chats, answers)
        logits: Tensor = policy(input_ids=ids, attention_mask=mask).logits
        p = logits[row, column].float().softmax(-1)
        return (p * self.row(states[row, column])).sum(-1)

    def _read(
        self, chats: Sequence[Chat], answers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give states [answers, columns, width], and where each prefix's lies: row, column."""
        ids, mask = self._padded(chats, answers)
        states = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        sizes = [len(self.opened(chat)) for chat in chats]
        row = [i for i, a in enumerate(answers) for _ in a]
        column = [n + t for n, a in zip(sizes, answers, strict=True) for t in range(len(a))]
        return (
            states,
            torch.tensor(row, device=states.device),
            torch.tensor(column, device=states.device),
        )

    def _padded(
        self, chats: Sequence[Chat], answers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        texts = [[*self.opened(c), *a] for c, a in zip(chats, answers, strict=True)]
        longest = max(map(len, texts))
        ids = torch.tensor([[*t, *[0] * (longest - len(t))] for t in texts])
        mask = torch.arange(longest) < torch.tensor([len(t) for t in texts])[:, None]
        return ids.to(self.base.device), mask.long().to(self.base.device)
