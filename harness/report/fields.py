"""One flat record per row, with every number: what the CSV files hold."""

from __future__ import annotations

import math

from harness.report.columns import in_order
from harness.report.comparison import Comparison, Result, judged, trials
from harness.report.cost.costs import Cost, seconds_ratio, tokens_ratio
from harness.report.improvement import gap_closed
from harness.report.statistics import Estimate
from harness.report.terms import Terms
from harness.report.trust import Trust
from harness.report.verdicts import KINDS, Verdicts

Record = dict[str, object]
OUTCOMES = ("tie", "unparsed", "failed", "refused", "missing")


def interval_fields(name: str, estimate: Estimate) -> Record:
    """Give a value and its interval under three names."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def rank_fields(name: str, rank: tuple[int, int] | None) -> Record:
    """Give the best and the worst place a row may hold."""
    best, worst = rank or ("", "")
    return {f"{name}_best": best, f"{name}_worst": worst}


def joint_fields(result: Result) -> Record:
    """Give the interval that holds for the whole family, and what it finds."""
    joint = result.joint if result.joint and not result.why else Estimate(math.nan)
    finding = "no difference shown" if not math.isnan(joint.low) else ""
    if joint.excludes_zero:
        finding = "above" if joint.low > 0 else "below"
    return {"joint_low": joint.low, "joint_high": joint.high, "finding": finding}


def cost_fields(cost: Cost, reference: Cost) -> Record:
    """Give the cost of an answer, by model and relative to the reference."""
    return {
        "tokens_per_answer": cost.total,
        **{f"tokens_{role}": n for role, n in cost.tokens.items()},
        "tokens_relative": tokens_ratio(cost, reference),
        "seconds_per_answer": cost.seconds,
        "seconds_relative": seconds_ratio(cost, reference),
    }


def row_record(result: Result, comparison: Comparison, terms: Terms, fit_seconds: float) -> Record:
    """Give one row of a benchmark with every number known about it."""
    row = result.row
    difference = result.difference if result.difference and not result.why else Estimate(math.nan)
    record: Record = {
        "benchmark": comparison.cell.benchmark,
        "method": row.label,
        "marks": " ".join(row.marks),
        "note": result.why,
        "headline": comparison.headline,
        **interval_fields("value", result.headline),
        "n": result.headline.n,
        "clusters": result.headline.clusters,
        **interval_fields("difference", difference),
        "difference_se": difference.se,
        "difference_n": difference.n,
        "detectable": difference.detectable,
        **joint_fields(result),
        "family": comparison.joint,
        "p": math.nan if result.why else result.p,
        "test": "" if result.why else result.test,
        "p_holm": math.nan if result.why else result.p_holm,
        **rank_fields("rank", result.rank),
        "ranked": comparison.ranked,
        "tuning_trials": trials(row),
        "tuning_objective": (row.spec.get("tuning") or {}).get("objective") or "",
        "runs": len(row.runs),
        "seeds": " ".join(sorted({str(run.spec.get("seed", "")) for run in row.runs})),
        "fits": row.fits,
        "items": len(row.answered) if row.runs else 0,
    }
    for scorer in in_order(comparison.scorers):
        if scorer != "kl":
            record |= _scorer_fields(result, scorer)
    for measure, share in gap_closed(result, comparison).items():
        record[f"relative_improvement_{measure}"] = "" if share is None else share
    record |= _kl_fields(result)
    reference = comparison.reference
    record |= cost_fields(result.cost, reference.cost if reference else Cost())
    record["fit_seconds"] = fit_seconds
    limit = row.spec.get("limit")
    return record | {
        "limit": "" if limit is None else limit,
        "protocol": terms.protocol,
        "protocol_hash": terms.hash,
    }


def _scorer_fields(result: Result, scorer: str) -> Record:
    record = interval_fields(scorer, result.means.get(scorer, Estimate(math.nan)))
    for name in sorted(result.means):
        if name.startswith(f"{scorer}."):
            record[name] = result.means[name].value
    if judged(scorer):
        record |= _verdict_fields(scorer, result.verdicts.get(scorer))
        record |= _trust_fields(scorer, result.trust.get(scorer))
    counted = result.row.outcomes(scorer)
    return record | {f"{scorer}_{kind}": counted[kind] for kind in OUTCOMES}


def _verdict_fields(scorer: str, found: Verdicts | None) -> Record:
    none = math.nan
    found = found or Verdicts(dict.fromkeys(KINDS, 0), Estimate(none), none, none, none, "")
    return {
        **interval_fields(f"{scorer}_strict", found.strict),
        f"{scorer}_worst_case": found.bound_low,
        f"{scorer}_best_case": found.bound_high,
        f"{scorer}_p": found.p,
        f"{scorer}_test": found.test,
        **{f"{scorer}_{kind}": found.kinds[kind] for kind in KINDS},
    }


def _trust_fields(scorer: str, found: Trust | None) -> Record:
    if found is None:
        return {}
    made = found.corrected
    return {
        **interval_fields(f"{scorer}_corrected", made.rate if made else Estimate(math.nan)),
        f"{scorer}_labelled": made.labelled if made else 0,
        f"{scorer}_slope": made.slope if made else math.nan,
        **interval_fields(f"{scorer}_by_{found.source}", found.truth),
        f"{scorer}_agreement_with_{found.source}": found.agreement,
        f"{scorer}_kappa_with_{found.source}": found.kappa,
    }


def _kl_fields(result: Result) -> Record:
    kinds = [run.spec.get("kl") or {} for run in result.row.runs]
    bounds = [float(k["bound"]) for k in kinds if k.get("bound") is not None]
    return {
        "kl_kind": " ".join(sorted({str(k.get("kind", "")) for k in kinds})),
        **interval_fields("kl", result.means.get("kl", Estimate(math.nan))),
        "kl_bound": max(bounds, default=math.nan),
        "kl_reason": "; ".join(sorted({str(k["reason"]) for k in kinds if k.get("reason")})),
    }
