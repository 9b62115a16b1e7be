"""What a tuning would cost: the trials it would make, their answers and fits; nothing is tuned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.conduct import fitting, store
from harness.conduct.forecast.forecasting import Forecast, Forecaster, Say
from harness.conduct.forecast.planned import Planned, parts_of
from harness.conduct.running import skip_reason
from harness.conduct.setting import Setting
from harness.conduct.tuning.development import USUAL
from harness.conduct.tuning.proposing import axes, proposals
from harness.conduct.tuning.search import Plan
from harness.contracts.method import Stack
from harness.report.frames import REFERENCE
from harness.report.rates import ANSWER, FIT, Guess, Rate, Rates, mean

PLACE = "dev"  # what a line calls the development prompts


def foresee(
    wanted: Plan,
    results: store.Store,
    *,
    say: Say = print,
    device: str | None = None,
    batch_rows: int = 64,
) -> Forecast:
    """Predict a tuning: for every method its trials' answers, and the fits under them.

    A trial answers the development prompts and scores them with the granted reward alone; its
    KL is measured only for an objective that caps it.
    """
    setting = Setting(wanted.order.protocol, device=device, batch_rows=batch_rows)
    stacks = wanted.order.stacks[1:] or wanted.order.stacks
    tried = {stack.label: _settings(setting, stack, wanted) for stack in stacks}
    every = tuple(one for found in tried.values() for one in found)
    order = replace(wanted.order, stacks=(wanted.order.stacks[0], *dict.fromkeys(every)))
    source = Forecaster(setting, order, results, say)
    lines: list[Planned] = []
    guesses: list[Guess] = []
    prompts = wanted.prompts or USUAL
    for stack in stacks:
        found = tried[stack.label]
        done = _done(setting, results, stack, wanted) if found else 0
        whole = Planned(
            ANSWER, PLACE, stack.label, parts_of(stack), wanted.seed, None,
            len(found) * prompts, done * prompts,
        )  # fmt: skip
        if not found:
            whole = replace(whole, skipped=_why(setting, stack))
        for line, guess in _fits(source, found[done:], prompts):
            lines.append(line)
            guesses.append(guess)
        lines.append(whole)
        guesses.append(_answers(source, found[done:], capped=wanted.objective.cap is not None))
    return Forecast(tuple(lines), tuple(guesses), tuple(source.notes), source.pace, source.busy)


def _settings(setting: Setting, stack: Stack, wanted: Plan) -> list[Stack]:
    """Give one setting a trial; where there are fewer settings, the first ones once more."""
    if _why(setting, stack):
        return []
    found = proposals(stack, axes(stack), wanted.trials, wanted.seed).stacks
    return [found[i % len(found)] for i in range(wanted.trials)]


def _why(setting: Setting, stack: Stack) -> str:
    if reason := skip_reason(setting, stack):
        return reason
    if "gold" in stack.needs:
        return "it is given the truth, which tuning never sees"
    return "" if axes(stack) else "no search space is declared"


def _done(setting: Setting, results: store.Store, stack: Stack, wanted: Plan) -> int:
    """Count the stored trials of the same tuning."""
    own = [fitting.described(part)["code"] for part in stack.parts]
    place = results.tuned(setting.terms, stack.name, {}).parent
    most = 0
    for file in sorted(place.glob("*/spec.json")):
        spec = store.read_json(file)
        same = [part["code"] for part in spec["stack"]] == own
        asked = (spec["trials"], spec["objective"], spec["seed"])
        if same and asked == (wanted.trials, wanted.objective.name, wanted.seed):
            most = max(most, len(store.read_lines(file.parent / "trials.jsonl")))
    return most


def _fits(
    source: Forecaster, settings: Sequence[Stack], prompts: int
) -> Iterator[tuple[Planned, Guess]]:
    """Give a line for all fits of one method: each setting's own, none twice."""
    rates: dict[tuple[str, ...], Guess] = {}
    for setting in settings:
        for i, part in enumerate(setting.parts):
            if part.method.fits():
                row = Stack(setting.parts[: i + 1])
                guess = source.fit(row)
                if guess.rate and any("queries" in p.method.needs for p in row.parts):
                    guess = replace(guess, rate=guess.rate.times(prompts))
                rates.setdefault(parts_of(row), guess)
    known = [guess.rate for guess in rates.values() if guess.rate]
    if not rates:
        return
    name = settings[0].name
    line = Planned(FIT, PLACE, name, (name,), None, None, len(known))
    if known:
        yield line, Guess(mean(known), next(g.basis for g in rates.values() if g.rate))
    if len(known) < len(rates):
        yield replace(line, count=len(rates) - len(known)), Guess(None, "never fitted")


def _answers(source: Forecaster, settings: Sequence[Stack], *, capped: bool) -> Guess:
    """Give what an answer of a trial costs, averaged over the settings still to be tried."""
    benchmark = _benchmark(source.rates)
    guesses = [source.answer(setting, benchmark) for setting in settings]
    known = [guess.rate for guess in guesses if guess.rate]
    if len(known) < len(guesses) or not known:
        return Guess(None, next((g.basis for g in guesses if not g.rate), ""))
    floor = source.rates.find(ANSWER, benchmark, REFERENCE) or Rate()
    rate = mean(known)
    phases = ("decode", "kl") if capped else ("decode",)
    seconds = {name: rate.seconds[name] for name in phases if name in rate.seconds}
    seconds["score"] = floor.seconds.get("score", 0.0)  # no judge is asked about the reference
    tokens = {k: v for k, v in rate.tokens.items() if k.partition(".")[0] in phases}
    tokens["score.reward"] = floor.tokens.get("score.reward", 0.0)
    bases = {guess.basis for guess in guesses} - {"measured"}
    return Guess(Rate(seconds, tokens), min(bases, default="measured"))


def _benchmark(rates: Rates) -> str:
    """Take the first benchmark on which the reference is known as the development prompts' kin."""
    found = (m.benchmark for m in rates.lines.values() if (m.kind, m.row) == (ANSWER, REFERENCE))
    return min(found, default="")
