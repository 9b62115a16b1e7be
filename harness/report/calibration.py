"""How far a judge agrees with labels, and what else sways it; pure functions.

Every observation is one pair of answers A and B with a label of who is better and what the
judge said in each order; nothing here asks a judge or reads a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from harness.judging.agreement import kappa
from harness.records import Json
from harness.report.verdicts import wilson


@dataclass(frozen=True)
class Judged:
    """One labelled pair as a judge saw it; 1 stands for A, 0 for B, 0.5 for a tie.

    label    who is better by the label.
    orders   what the judge said with A first and, where it was asked, with B first, both
             in terms of A; None where there was no verdict.
    outcome  "ok" or "tie", or why there is no verdict.
    longer   1 where A is longer, 0 where B is, 0.5 where neither.
    """

    label: float
    orders: tuple[float | None, ...]
    outcome: str
    longer: float

    @property
    def verdict(self) -> float | None:
        """Give the one observation that the orders make: 0.5 where they disagree."""
        said = [one for one in self.orders if one is not None]
        if not said or len(said) < len(self.orders):
            return None
        return said[0] if len(set(said)) == 1 else 0.5


@dataclass(frozen=True)
class Share:
    """A proportion with Wilson's 95 % interval; NaN of nothing."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: Sequence[bool]) -> Share:
        """Count how many are true."""
        n = len(hits)
        return cls(sum(hits) / n if n else math.nan, *wilson(sum(hits), n), n)


@dataclass(frozen=True)
class Agreement:
    """What one set of labelled pairs says about a judge.

    pairs        labelled pairs; no_verdict: those without a verdict, by outcome.
    agreement    share of pairs with a verdict where it is the label's; a split or a tie is
                 no agreement with a label that has a winner.
    decided      the same among pairs with a clear verdict and a labelled winner.
    first_order  the same where A stands first only (what a judge asked once would reach).
    kappa        Cohen's, on the three verdicts A, B and tie.
    base_rate    the commonest label's share: what a judge that always says it would reach.
    flips        share of pairs asked in both orders whose two verdicts differ;
                 reversed: where they name opposite winners.
    first        share of clear single verdicts for the answer that stood first; even is 0.5.
    longer       share of clear verdicts for the longer answer, and the labels' own share.
    repeated     share of repeated questions read as before, no verdict included.
    """

    pairs: int
    no_verdict: dict[str, int]
    agreement: Share
    decided: Share
    first_order: Share
    kappa: float
    base_rate: float
    flips: Share
    reversed: Share
    first: Share
    longer: Share
    longer_by_label: Share
    repeated: Share

    def to_json(self) -> dict[str, Json]:
        """Give a JSON object; a number that is none becomes null."""
        found: dict[str, Json] = _plain(asdict(self))
        return found


def agreement(
    judged: Sequence[Judged], again: Sequence[tuple[float | None, float | None]] = ()
) -> Agreement:
    """Sum a set up.

    again  (verdict, verdict when asked again) of single questions that were repeated.
    """
    there = [(one, one.verdict) for one in judged]
    read = [(one, verdict) for one, verdict in there if verdict is not None]
    missing: dict[str, int] = {}
    for one, verdict in there:
        if verdict is None:
            missing[one.outcome] = missing.get(one.outcome, 0) + 1
    labels = [one.label for one, _ in read]
    both = [one.orders for one, _ in read if len(one.orders) > 1]
    singles = [
        said if at == 0 else 1.0 - said
        for one in judged
        for at, said in enumerate(one.orders)
        if said is not None and said != 0.5
    ]
    clear = [(one, v) for one, v in read if v != 0.5 and one.longer != 0.5]
    named = [one for one in judged if one.label != 0.5 and one.longer != 0.5]
    firsts = [one for one in judged if one.orders and one.orders[0] is not None]
    return Agreement(
        pairs=len(judged),
        no_verdict=dict(sorted(missing.items())),
        agreement=Share.of([one.label == verdict for one, verdict in read]),
        decided=Share.of([one.label == v for one, v in read if v != 0.5 and one.label != 0.5]),
        first_order=Share.of([one.label == one.orders[0] for one in firsts]),
        kappa=kappa(labels, [verdict for _, verdict in read]),
        base_rate=max((labels.count(x) for x in set(labels)), default=0) / max(len(labels), 1),
        flips=Share.of([len(set(orders)) > 1 for orders in both]),
        reversed=Share.of([{0.0, 1.0} <= set(orders) for orders in both]),
        first=Share.of([said == 1.0 for said in singles]),
        longer=Share.of([one.longer == verdict for one, verdict in clear]),
        longer_by_label=Share.of([one.longer == one.label for one in named]),
        repeated=Share.of([before == after for before, after in again]),
    )


def _plain(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
