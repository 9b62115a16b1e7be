"""Control: the base model's answer, followed by words that say nothing.

    y = y_0 + filler,   y_0 ~ p(. | x)

The answer is the unsteered row's own up to where it would have ended.  There the
end token's probability is given to a special token that no text shows (the one
nearest to it in the vocabulary, so that the same luck draws the same answer),
and after that the filler is forced.  A tokenizer without such a token has the
filler begin at its own first token, wherever the model writes it.  A scorer that
likes length likes this row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import Fitted, Kit, Method, Need, Steering, Step
from methods._forced import end_token, only, token_ids


@dataclass(frozen=True)
class VerbosePadding(Method):
    """Pads every answer with ``filler``."""

    needs: ClassVar[frozenset[Need]] = frozenset({"words"})
    control: ClassVar[bool] = True

    filler: str = (
        "\n\nThere is of course much more to say about this. It is a good question, and there "
        "are many sides to it. One could say more, and then one could say even more."
    )

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Move the end token's mass to the filler, then force the filler."""
        end = end_token(kit)
        ends = torch.tensor(kit.model.ends, device=kit.model.device)
        words = token_ids(kit, self.filler)
        hidden = [i for i in kit.model.tokenizer.all_special_ids if i not in kit.model.ends]
        mark = min(hidden, key=lambda i: abs(i - end)) if hidden else words.pop(0)
        filler = torch.tensor([*words, end], device=kit.model.device)

        def logits(scores: Tensor, step: Step) -> Tensor:
            ending = scores[:, ends].logsumexp(-1)
            padded = scores.clone()
            padded[:, mark] = ending if hidden else torch.logaddexp(padded[:, mark], ending)
            padded[:, ends] = float("-inf")
            said = step.rows.ids[:, : step.index] == mark
            begun = said.any(-1)
            if bool(begun.any()):
                # How far into the filler a row is: tokens since the mark.
                since = step.index - 1 - said.int().argmax(-1)
                forced = filler[since.clamp(max=len(filler) - 1)]
                padded = torch.where(begun.unsqueeze(-1), only(scores, forced), padded)
            return padded

        return Steering(logits=(logits,))
