"""How far a method goes on the way from the base model to the protocol's aligned model.

    net = W% - L%                     wins and losses against the base model; a tie is neither
    RI  = 100 * net / net(aligned)    0: no gain, 100: as good as the aligned model

"Relative Improvement" of Adila et al. 2024, arXiv 2406.03642.  It is undefined where the
aligned model itself does not gain, and then there is none, rather than a number of any size.
"""

from __future__ import annotations

import math

from harness.report.comparison import Comparison, Result, judged

ALIGNED = "aligned"  # the label of the row that is the aligned model


def net(win_rate: float) -> float:
    """Give wins less losses, in per cent, of a win rate that counts a tie half."""
    return 100 * (2 * win_rate - 1)


def relative_improvement(gain: float, aligned: float) -> float | None:
    """Give the share of the aligned model's gain, in per cent; None where it has none."""
    if math.isnan(gain) or math.isnan(aligned) or aligned <= 0:
        return None
    return 100 * gain / aligned


def aligned_row(comparison: Comparison) -> Result | None:
    """Find the row of the aligned model, if it was run."""
    return next((r for r in comparison.results if r.row.label == ALIGNED and r.row.runs), None)


def gap_closed(result: Result, comparison: Comparison) -> dict[str, float | None]:
    """Give a row's Relative Improvement by measure; empty where there is no aligned row.

    By each judge's net win rate, as published, and by the headline's paired difference.
    """
    aligned = aligned_row(comparison)
    if aligned is None or not result.row.runs:
        return {}
    found: dict[str, float | None] = {}
    for scorer in filter(judged, comparison.scorers):
        pair = [r.means[scorer].value if scorer in r.means else math.nan for r in (result, aligned)]
        found[scorer] = relative_improvement(net(pair[0]), net(pair[1]))
    if comparison.headline and not judged(comparison.headline):
        gains = [
            r.difference.value if r.difference and not r.why else math.nan
            for r in (result, aligned)
        ]
        found[comparison.headline] = relative_improvement(gains[0], gains[1])
    return found
