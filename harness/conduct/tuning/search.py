"""Tune methods: for each the same number of evaluations, prompts and objective, all counted.

The defaults are tried first, then settings spread over the declared space, none twice.  Where a
space has fewer settings than there are trials, the rest goes to further sampling seeds of the
best settings, so that every method spends the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.conduct import fitting, runner, store
from harness.conduct.logs import write_log
from harness.conduct.questions import Questions, Training, training
from harness.conduct.running import skip_reason
from harness.conduct.setting import Setting
from harness.conduct.tuning.development import Sealed, development
from harness.conduct.tuning.evaluating import Evaluator, NoKL
from harness.conduct.tuning.objective import Objective
from harness.conduct.tuning.proposing import Axis, axes, proposals
from harness.conduct.tuning.trials import Trial, again, changed, in_words, read
from harness.conduct.tuning.tuned import result, sentence
from harness.contracts.budget import Budget, Chosen
from harness.contracts.method import Stack
from harness.errors import PlumblineError
from harness.records import Json

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What every method is given.

    trials   evaluations of each.
    prompts  development prompts; None for as many as are usual.
    seed     of the search and of sampling.
    """

    order: runner.Order
    objective: Objective
    trials: int
    seed: int = 0
    prompts: int | None = None


@dataclass
class Outcome:
    """What came of it: the folders of finished tunings, and failures, one line each."""

    folders: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Bench:
    """What the tunings of one command share."""

    plan: Plan
    setting: Sealed
    questions: Questions
    told: Training
    results: store.Store
    say: Say

    @property
    def chosen(self) -> Chosen:
        return Chosen(self.plan.trials, self.plan.objective.name)


def plan(
    order: runner.Order, objective: Objective, trials: int | None, prompts: int | None
) -> Plan:
    """Check a command's words.

    trials  None for the protocol's number, or 8 where it gives none.

    Raises PlumblineError for no trials, rows that name fields of their own, and a protocol
    without a granted reward.
    """
    sections = order.protocol.sections
    count = (sections.tuning.trials or 8) if trials is None else trials
    if count < 1:
        raise PlumblineError(f"TRIALS is {count}; it must be at least 1, the defaults themselves")
    if order.named:
        raise PlumblineError(
            f"{sorted(order.named)[0]} names fields of its own; tuning takes methods by name "
            "alone, and starts from their defaults"
        )
    if len(order.seeds) > 1:
        raise PlumblineError(f"SEED names {len(order.seeds)} seeds; tuning takes one number")
    if sections.rewards.granted is None:
        raise PlumblineError(
            f"protocol {order.protocol.name} grants no reward model ([rewards] granted is empty), "
            "so there is nothing to tune by"
        )
    return Plan(order, objective, count, order.seeds[0], prompts)


def tune(
    wanted: Plan,
    results: store.Store,
    *,
    say: Say,
    device: str | None = None,
    batch_rows: int = 64,
) -> Outcome:
    """Tune every stack that is not tuned yet; a tuning that was killed goes on where it was."""
    whole = Setting(wanted.order.protocol, device=device, batch_rows=batch_rows)
    results.check()
    stacks = wanted.order.stacks[1:] or wanted.order.stacks
    skipped = {stack.label: skip_reason(whole, stack) for stack in stacks}
    told = training(whole)
    setting = Sealed(whole)
    questions = development(setting, told, wanted.prompts)
    say(
        f"protocol {setting.protocol.name}, terms {setting.terms_hash}: {wanted.trials} "
        f"trials each on {wanted.objective.name}, {len(questions.prompts)} development prompts"
    )
    for reason, count in (told.notes + questions.notes).items():
        say(f"{count} {reason}")
    bench = _Bench(wanted, setting, questions, told, results, say)
    outcome = Outcome()
    for stack in stacks:
        if why := skipped[stack.label]:
            say(f"{stack.label}: not tuned: {why}")
            continue
        try:
            folder = _tune(bench, stack)
        except store.StoreError:
            raise
        except PlumblineError as error:
            line = " ".join(f"{stack.label}: {error}".split())
            outcome.failures.append(line)
            say(f"failed: {line}")
            continue
        if folder is not None:
            outcome.folders.append(folder)
    return outcome


def _tune(bench: _Bench, stack: Stack) -> Path | None:
    """Tune one stack; None, with a line, where there is nothing to tune."""
    if "gold" in stack.needs:
        bench.say(f"{stack.label}: not tuned: it is given the truth, which tuning never sees")
        return None
    space = axes(stack)
    if not space:
        bench.say(f"{stack.label}: no search space is declared; its defaults are used, no trials")
        return None
    spec = _specification(bench, stack, space)
    folder = bench.results.tuned(bench.setting.terms, stack.name, spec)
    with store.opened(folder, spec, f"waiting for another process that tunes {stack.label}"):
        if not (folder / "tuned.json").exists():
            trials = _trials(bench, stack, space, folder)
            found = result(spec, len(bench.questions.prompts), trials, bench.plan.objective)
            store.write_json(folder / "tuned.json", found)
    bench.say(sentence(store.read_json(folder / "tuned.json")))
    return folder


def _trials(bench: _Bench, stack: Stack, space: list[Axis], folder: Path) -> list[Trial]:
    """Make the trials that are still to be made; give all of them."""
    wanted = bench.plan
    found = proposals(stack, space, wanted.trials, wanted.seed)
    settings = [replace(one, chosen=bench.chosen) for one in found.stacks]
    if found.refused:
        bench.say(f"{stack.label}: {found.refused} combinations that the method refuses, left out")
    store.mend(folder / "trials.jsonl")
    trials = read(folder)
    budget = Budget(wanted.trials, spent=len(trials))
    evaluate = Evaluator(
        bench.setting,
        bench.questions,
        bench.told,
        bench.results,
        budget,
        with_kl=wanted.objective.cap is not None,
        paid={fit for trial in trials for fit in trial.fits},
    )
    while budget.left:
        number, seed = len(trials), wanted.seed
        if number >= len(settings):
            once_more = again(trials, wanted.objective)
            number, seed = once_more.setting, wanted.seed + once_more.trials
        trial = _trial(bench, evaluate, settings[number], number, seed)
        store.append(folder / "trials.jsonl", [trial.to_json()])
        trials.append(trial)
        bench.say(f"{stack.label}  trial {len(trials)} of {wanted.trials}  {in_words(trial)}")
    if all(trial.failed for trial in trials):
        raise PlumblineError(f"all {len(trials)} trials failed; the first: {trials[0].failed}")
    return trials


def _trial(bench: _Bench, evaluate: Evaluator, stack: Stack, number: int, seed: int) -> Trial:
    """Make one trial; a setting that fails has spent its evaluation like any other."""
    try:
        made = evaluate(stack, seed)
    except (store.StoreError, NoKL):
        raise
    except PlumblineError as error:
        return Trial(number, changed(stack), seed, None, failed=str(error))
    except Exception as error:  # a plugin's own fault; the other settings go on
        log = write_log(bench.results.root, error)
        why = f"{type(error).__name__}: {error} (traceback in {log})"
        return Trial(number, changed(stack), seed, None, failed=why)
    return Trial(
        number,
        changed(stack),
        seed,
        made.reward,
        made.error,
        made.kl,
        "",
        made.left_out,
        made.fits,
        made.labels,
        made.ledger,
    )


# ---------------------------------------------------------------- what is recorded


def _specification(bench: _Bench, stack: Stack, space: list[Axis]) -> dict[str, Json]:
    """Give all that a tuning's result depends on."""
    setting, wanted = bench.setting, bench.plan
    return {
        "protocol": setting.protocol.name,
        "protocol_hash": setting.terms_hash,
        "method": stack.label,
        "stack": [fitting.described(part) for part in stack.parts],
        "space": [[axis.name, list(axis.values)] for axis in space],
        "trials": wanted.trials,
        "objective": wanted.objective.name,
        "seed": wanted.seed,
        "fit_seed": setting.protocol.sections.seeds.fit[0],
        "prompts": bench.questions.digest(),
        "training": bench.told.digests(),
        "model": setting.model.facts(),
    }
