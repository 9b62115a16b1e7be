"""What tests of tuning ask for: a tuning, and a bench that may use what it found."""

from harness.conduct import runner, store
from harness.conduct.tuning import search
from harness.conduct.tuning.objective import parse


def tune(tiny, results, methods, count=4, objective="reward", prompts=None, say=None, seeds="0"):
    """Tune methods; give the outcome and the lines said."""
    lines: list[str] = []
    plan = search.plan(runner.order(methods, tiny, seeds=seeds), parse(objective), count, prompts)
    outcome = search.tune(plan, store.Store(results), say=say or lines.append, device="cpu")
    return outcome, lines


def bench(tiny, results, methods, fields="tuned", **words):
    """Run rows on one benchmark; give the lines said and each run's spec by label."""
    said: list[str] = []
    asked = runner.order(methods, tiny, benchmarks="hh_rlhf", **words)
    outcome = runner.bench(
        asked, store.Store(results), say=said.append, device="cpu", tables=False, fields=fields
    )
    assert outcome.failures == []
    specs = [store.read_json(f) for f in results.glob("runs/*/hh_rlhf/*/*/spec.json")]
    return said, {spec["method"]: spec for spec in specs}
