"""How often a judge is right, and how often it says the same with the answers swapped.

The statistics of Zeng et al., "Evaluating Large Language Models at Evaluating Instruction
Following" (LLMBar), arXiv 2310.07641, and Cohen's kappa (1960).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


def kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Give Cohen's kappa of two columns of labels; NaN where both always say one thing.

    Every distinct value is a label, None (no verdict) among them.
    """
    n = len(first)
    if n == 0 or len(second) != n:
        return math.nan
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    counts, others = Counter(first), Counter(second)
    expected = sum(counts[label] * others[label] for label in counts) / (n * n)
    return math.nan if expected == 1 else (observed - expected) / (1 - expected)


@dataclass(frozen=True)
class BothOrders:
    """A judge's verdicts on labelled pairs, asked in both orders; counts out of ``n``.

    right            right with the first answer first; ``right_swapped`` with it second.
    right_both       right in both orders.
    consistent       the same verdict in both orders.
    kappa_agreement  Cohen's kappa between the two orders.
    """

    n: int
    right: int
    right_swapped: int
    right_both: int
    consistent: int
    kappa: float
    kappa_swapped: float
    kappa_agreement: float


def both_orders(
    labels: Sequence[Hashable], straight: Sequence[Hashable], swapped: Sequence[Hashable]
) -> BothOrders:
    """Compare verdicts, already mapped back to the answers, with the labels."""
    pairs = list(zip(labels, straight, swapped, strict=True))
    return BothOrders(
        n=len(pairs),
        right=sum(a == b for a, b, _ in pairs),
        right_swapped=sum(a == c for a, _, c in pairs),
        right_both=sum(a == b == c for a, b, c in pairs),
        consistent=sum(b == c for _, b, c in pairs),
        kappa=kappa(labels, straight),
        kappa_swapped=kappa(labels, swapped),
        kappa_agreement=kappa(straight, swapped),
    )
