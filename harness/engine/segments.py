"""Answers grown by segments, each accepted or drawn again from where it began.

Rows then differ in age (``Rows.ages``): one may be at its third segment while another draws its
first for the tenth time.  A proposal's number, the row's ``slot``, counts what has been rejected;
with the position it names the luck.  So an answer of which nothing is rejected is the plain
sample, no luck is used twice, and a proposal can be drawn again token for token.  The cache is
written at each row's own column: what was rejected is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from harness.engine.rows import Rows
from harness.errors import PlumblineError

KEY = "proposals"  # where they stand in Rows.carry


@dataclass(frozen=True)
class Segments:
    """Where a segment ends, and whether it is kept.

    ends    (log-probabilities of the coming token [rows, vocabulary], tokens of the segment so
            far [rows]) -> [rows] True where the segment is over before that token.  It is over
            too where the answer is.
    accept  (scores [rows], rows) -> [rows] True where the last segment stays.
    tries   proposals of a segment; where none is accepted, the best is kept.
    """

    ends: Callable[[Tensor, Tensor], Tensor]
    accept: Callable[[Tensor, Rows], Tensor]
    tries: int

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise PlumblineError(
                f"proposals of a segment are {self.tries}; there must be 1 at least"
            )


@dataclass(frozen=True)
class _Proposals:
    """Where each row stands with its segment.  A proposal's number is its row's ``slot``.

    start   [rows] tokens before the segment, and first: the number of its first proposal.
    logits  [rows, vocabulary] from which its first token is drawn.
    best    [rows] the best score among its proposals, and number: that proposal's.
    again   [rows] True while that one is drawn again, to be kept.
    """

    start: Tensor
    first: Tensor
    logits: Tensor
    best: Tensor
    number: Tensor
    again: Tensor

    def select(self, index: Tensor) -> _Proposals:
        """Keep the rows named by ``index``."""
        return _Proposals(*(getattr(self, f.name).index_select(0, index) for f in fields(self)))


def begun(rows: Rows, masks: bool) -> Rows:
    """Let rows of no tokens begin their first segment; masks: whether each may see its own past."""
    if not masks:
        raise PlumblineError(
            "drawing segments again needs a network whose every layer attends to all earlier "
            "tokens, under sdpa attention"
        )
    assert rows.logits is not None
    zeros = torch.zeros_like(rows.slot)
    worst = torch.full(zeros.shape, -torch.inf, dtype=torch.float64, device=zeros.device)
    rows.ages = zeros
    rows.carry[KEY] = _Proposals(zeros, zeros, rows.logits, worst, zeros, zeros.bool())
    return rows


def judged(rows: Rows, how: Segments, score: Callable[[Rows], Tensor]) -> Rows:
    """Accept the segments that are over, or take their rows back to where they began."""
    mine, logits = rows.carry[KEY], rows.logits
    assert isinstance(mine, _Proposals)
    assert logits is not None
    assert rows.ages is not None
    over = rows.finished | how.ends(logits.log_softmax(-1), rows.ages - mine.start)
    spent = rows.slot - mine.first == how.tries - 1
    best, number, kept = mine.best.clone(), mine.number.clone(), over & mine.again
    asked = (over & ~mine.again).nonzero().flatten()
    if len(asked):
        shown = rows.bare().select(asked)
        scores = score(shown)
        better = scores > best[asked]
        best[asked] = torch.where(better, scores, best[asked])
        number[asked] = torch.where(better, shown.slot, number[asked])
        # The last proposal need not be drawn again where it is the best.
        kept[asked] = how.accept(scores, shown) | spent[asked] & better
    back = over & ~kept
    # Where one was drawn again, later streams have been used up to the last proposal's.
    slot = torch.where(kept & mine.again, mine.first + how.tries, rows.slot)
    rows.slot = torch.where(back, torch.where(spent, number, slot + 1), slot)
    rows.ages = torch.where(back, mine.start, rows.ages)
    rows.stop = torch.where(back, 0, rows.stop)
    rows.length = torch.where(back, 0, rows.length)
    rows.logits = torch.where(back[:, None], mine.logits, logits)
    rows.carry[KEY] = _Proposals(
        start=torch.where(kept, rows.ages, mine.start),
        first=torch.where(kept, rows.slot, mine.first),
        logits=torch.where(kept[:, None], logits, mine.logits),
        best=torch.where(kept, -torch.inf, best),
        number=number,
        again=torch.where(over, back & spent, mine.again),
    )
    return rows
