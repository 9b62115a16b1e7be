"""A row's verdicts beside what is known of the truth: counted, tested, corrected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.judging.agreement import kappa
from harness.records import Score
from harness.report.correction import Corrected, corrected, labelled_slice
from harness.report.frames import Row, Seen
from harness.report.statistics import Array, Contrast, Estimate, bootstrap, identity_seed
from harness.report.verdicts import Kind, Verdicts, kind_of, verdicts

LABEL = "label"  # a scorer that holds people's own verdicts on a row's answers
TRUTH = "gold"  # the scorer that holds a world's planted truth


@dataclass(frozen=True)
class Trust:
    """A judge held against the truth on one row's own answers.

    source     where the truth is from: "gold" (a world's) or "label" (people's).
    truth      the win rate by the truth over every answer that has one.
    corrected  the judge's rate corrected by the labelled slice, or None: too few labels.
    agreement  share of answers with a verdict and the truth where the two are equal.
    kappa      Cohen's, on won, tied and lost.
    """

    source: str
    truth: Estimate
    corrected: Corrected | None
    agreement: float
    kappa: float


def judged_row(row: Row, scorer: str, reference: Row | None) -> Verdicts:
    """Count and test one row's verdicts of one judge.

    reference  the row the others are compared with; where it is also what the judge compared
               them with, it has no verdicts of its own and wins are held against losses.
    """
    ours = row.by_seed(scorer)
    kinds = [kind_in(score) for score in ours.values()]
    theirs = None
    if reference is not None and reference is not row and not is_opponent(reference, scorer):
        there = reference.by_seed(scorer)
        theirs = [kind_in(there.get(seen)) for seen in ours] if there else None
    return verdicts(_values(ours), kinds, _clusters(row, ours), theirs)


def trust(row: Row, scorer: str, reference: Row | None) -> Trust | None:
    """Hold a judge against the truth on a row's answers; None where none is known."""
    ours = row.by_seed(scorer)
    clusters = _clusters(row, ours)
    people = row.by_seed(LABEL)
    if people:
        source, truth = LABEL, _values({seen: people.get(seen) for seen in ours})
        labels = truth
    else:
        if reference is None or row is reference or not is_opponent(reference, scorer):
            return None
        source, truth = TRUTH, _better(row, reference, list(ours))
        labels = np.where(labelled_slice(clusters), truth, np.nan)
    if not clusters or np.isnan(truth).all():
        return None
    said = _values(ours)
    seed = identity_seed("truth", *sorted(set(clusters)))
    both = ~(np.isnan(said) | np.isnan(truth))
    a, b = np.sign(said[both] - 0.5).tolist(), np.sign(truth[both] - 0.5).tolist()
    return Trust(
        source,
        bootstrap([Contrast(truth[None])], clusters, seed=seed)[0],
        corrected(said, labels, clusters),
        float(np.mean(np.equal(a, b))) if a else math.nan,
        kappa(a, b),
    )


def is_opponent(reference: Row, scorer: str) -> bool:
    """Say whether the judge compared the rows with this one: then all it has are ties."""
    scored = [run.scores[scorer] for run in reference.runs if scorer in run.scores]
    return all({*s.outcomes} <= {"tie"} and (s.values_there == 0.5).all() for s in scored)


def _better(row: Row, reference: Row, seen: Sequence[Seen]) -> Array:
    """Say of each answer whether the truth puts it above the reference's: 1, 0.5 or 0."""
    sides = row.values_by_seed(TRUTH), reference.values_by_seed(TRUTH)
    a, b = (np.array([side.get(one, math.nan) for one in seen]) for side in sides)
    return np.asarray((np.sign(a - b) + 1) / 2)


def _clusters(row: Row, seen: Mapping[Seen, object]) -> list[str]:
    cluster = dict(zip(row.answered, row.clusters, strict=True))
    return [cluster[key] for _, key in seen]


def _values(scores: Mapping[Seen, Score | None]) -> Array:
    return np.array(
        [math.nan if s is None or s.value is None else s.value for s in scores.values()]
    )


def kind_in(score: Score | None) -> Kind | None:
    """Say what kind of verdict a score is; None where it is none."""
    if score is None or score.value is None:
        return None
    orders = [value for name, value in score.parts.items() if name.startswith("order_")]
    return kind_of(score.value, orders)
