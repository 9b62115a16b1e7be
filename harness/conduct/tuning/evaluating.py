"""One evaluation: fit a setting, answer the development prompts, score with the granted reward.

Every evaluation is counted before it is made, and one more than allowed raises.  All settings
meet the same prompts; at one seed they meet the same luck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from harness.conduct import divergence, fitting, fractions, store
from harness.conduct.cell import Cell
from harness.conduct.fitting import Learned
from harness.conduct.questions import Questions, Training
from harness.conduct.running import equipped
from harness.conduct.tuning.development import Sealed
from harness.contracts.budget import Budget
from harness.contracts.method import Stack
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger

if TYPE_CHECKING:
    from harness.engine.decoding import Decoded, Job


class NoKL(PlumblineError):
    """A KL was asked of something that has none."""


@dataclass(frozen=True)
class Evaluation:
    """What came of one setting.

    reward    mean over the prompts that could be answered; error: its standard error.
    kl        mean nats from the unsteered model, or a bound; None where not asked for.
    left_out  prompts that no longer fitted the model once the method had edited them.
    fits      folder names of the fits it rests on.
    labels    preference pairs that the fits were given.
    ledger    what it cost, the fits that no earlier setting had paid for included.
    """

    reward: float
    error: float | None
    kl: float | None
    left_out: int
    fits: tuple[str, ...]
    labels: int
    ledger: Ledger


class Evaluator:
    """Evaluates settings as long as its budget lasts.

    budget  shared with whoever wants to know how much is left.
    paid    fits whose cost an earlier evaluation carries.
    """

    def __init__(
        self,
        setting: Sealed,
        questions: Questions,
        told: Training,
        results: store.Store,
        budget: Budget,
        *,
        with_kl: bool = False,
        paid: set[str] | None = None,
    ) -> None:
        self.setting = setting
        self.questions = questions
        self.told = told
        self.results = results
        self.budget = budget
        self.with_kl = with_kl
        self.paid = set(paid or ())

    def __call__(self, stack: Stack, seed: int) -> Evaluation:
        """Evaluate one setting under one sampling seed.

        Raises BudgetSpent where no evaluation is left, NoKL where a KL is asked of a method
        that has none, and whatever the method raises; each call but the first kind counts.
        """
        self.budget.spend(f"tuning {stack.name}")
        setting = self.setting
        fit_seed = setting.protocol.sections.seeds.fit[0]
        cell = Cell(setting, self.questions, stack, seed, fit_seed)
        kit, reward = equipped(setting, stack, cell.sampling)
        assert reward is not None, "nothing is tuned without a granted reward"
        learned = fitting.fit(self.results, cell, kit, self.told, reward)
        ledger = self._fitted(stack, learned)
        steering = stack.steer(kit, learned.fitted)
        how = divergence.kind(cell, steering)
        if self.with_kl and how.kind == "none":
            raise NoKL(f"it has no KL: {how.reason}; OBJECTIVE=reward asks for none")
        jobs = self._jobs(steering)
        with setting.metered(ledger):
            with ledger.timed("decode"):
                decoded = _drawn(cell, jobs, steering)
            with ledger.timed("score"):
                found = reward.score([j.chat for j in jobs], [d.text for d in decoded])
            bad = sum(not math.isfinite(value) for value in found)
            if bad:
                raise PlumblineError(f"the granted reward is no number for {bad} answers")
            kl = None
            if self.with_kl:
                with ledger.timed("kl"):
                    kl = _divergence(cell, how, steering, jobs, decoded)
        return Evaluation(
            fmean(found),
            stdev(found) / math.sqrt(len(found)) if len(found) > 1 else None,
            kl,
            len(self.questions.prompts) - len(jobs),
            tuple(fit for fit in learned.fits if fit),
            self._labels(cell),
            ledger,
        )

    def _fitted(self, stack: Stack, learned: Learned) -> Ledger:
        """Add up what the fits cost, whenever they were made; each is paid for once."""
        total = Ledger()
        fits = self.results.root / "fits" / self.setting.terms
        for number, name in enumerate(learned.fits):
            if name is None or name in self.paid:
                continue
            self.paid.add(name)
            folder = fits / Stack(stack.parts[: number + 1]).name / name
            for line in store.read_lines(folder / "ledger.jsonl"):
                total += Ledger.from_json(line)
        return total

    def _labels(self, cell: Cell) -> int:
        given = [
            len(fractions.nested(self.told.pairs, part.fraction, cell.fit_seed))
            for part in cell.stack.parts
            if part.method.fits() and "pairs" in part.method.needs
        ]
        return max(given, default=0)  # parts of a stack are given the same pairs

    def _jobs(self, steering: Steering) -> list[Job]:
        from harness.engine.decoding import Job

        asked, sampling = self.questions.prompts, self.questions.sampling
        chats = [p.chat for p in asked]
        edited = steering.prompted(chats) if steering.prompt else chats
        jobs = [
            Job(p.id, p.chat, sampling[p.id])
            for p, chat in zip(asked, edited, strict=True)
            if self.setting.room(chat, sampling[p.id])
        ]
        if not jobs:
            raise PlumblineError("no development prompt fits the model once it is edited")
        return jobs


def _drawn(cell: Cell, jobs: list[Job], steering: Steering) -> list[Decoded]:
    batches = cell.setting.decode(jobs, steering, cell.seed, cell.search_sampling)
    done = {d.job: d for batch in batches for d in batch}
    return [done[i] for i in range(len(jobs))]


def _divergence(
    cell: Cell,
    how: divergence.Kind,
    steering: Steering,
    jobs: list[Job],
    decoded: list[Decoded],
) -> float:
    """Give the mean nats per answer, at temperature 1; an upper bound where that is known."""
    from harness.engine.density import NoDensity

    if how.bound is not None:
        return how.bound
    if not steering.touches - {"noise", "stop"}:
        return 0.0
    if not cell.questions.plain:
        jobs = [
            replace(j, sampling=replace(j.sampling, temperature=1.0, top_k=0, top_p=1.0))
            for j in jobs
        ]
        decoded = _drawn(cell, jobs, steering)
    try:
        return fmean(cell.setting.kl(jobs, [d.tokens for d in decoded], steering))
    except NoDensity as error:
        why = f"it has no KL: {error}; OBJECTIVE=reward asks for none"
        raise NoKL(why) from error
