"""A world's planted truth, dressed as a reward model, for the rows that are ceilings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.chat import Chat
from harness.ledger import Ledger

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.rows import Rows


class GoldReward:
    """Scores by the planted truth, through the same calls as a reward model; costs no tokens."""

    name = "gold"

    def __init__(self, gold: Callable[[Chat, str], dict[str, float]]) -> None:
        self._gold = gold
        self.ledger = Ledger()

    def score(self, chats: Sequence[Chat], texts: Sequence[str]) -> list[float]:
        """Give the planted truth about each answer."""
        return [self._gold(chat, text)["gold"] for chat, text in zip(chats, texts, strict=True)]

    def of_rows(self, rows: Rows) -> Tensor:
        """Score the rows of a search: [rows]."""
        import torch

        scores = self.score(rows.asked(), rows.texts())
        return torch.tensor(scores, dtype=torch.float64, device=rows.origin.device)

    @contextmanager
    def metered(self, ledger: Ledger) -> Iterator[Ledger]:
        """Count on ``ledger``: there is nothing to count."""
        yield ledger
