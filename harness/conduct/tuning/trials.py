"""Trials of one tuning as they are stored: one line each, appended when it is finished."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.conduct import store
from harness.conduct.tuning.objective import Objective
from harness.contracts.method import Stack
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Json

REFUSED = (PlumblineError, ValueError, TypeError, AssertionError)  # how a method says no


@dataclass(frozen=True)
class Trial:
    """One evaluation of one setting, or the failure to make it.

    setting  number of the setting; several trials of one setting differ in their seed.
    fields   part by part, what differs from the defaults.
    reward   None where it failed; failed: why.
    """

    setting: int
    fields: tuple[dict[str, Json], ...]
    seed: int
    reward: float | None
    error: float | None = None
    kl: float | None = None
    failed: str = ""
    left_out: int = 0
    fits: tuple[str, ...] = ()
    labels: int = 0
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def seconds(self) -> float:
        """Give the seconds of all phases."""
        return sum(self.ledger.seconds.values())

    @property
    def tokens(self) -> int:
        """Give the tokens through all models."""
        return sum(self.ledger.tokens.values())

    def to_json(self) -> dict[str, Json]:
        """Give the line that is stored."""
        return {
            "setting": self.setting,
            "fields": [dict(part) for part in self.fields],
            "seed": self.seed,
            "reward": self.reward,
            "error": self.error,
            "kl": self.kl,
            "failed": self.failed,
            "left_out": self.left_out,
            "fits": list(self.fits),
            "labels": self.labels,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "ledger": self.ledger.to_json(),
        }

    @classmethod
    def from_json(cls, line: dict[str, Json]) -> Trial:
        """Read a stored line back."""
        known = {k: v for k, v in line.items() if k not in ("seconds", "tokens")}
        known["fields"] = tuple(line["fields"])
        known["fits"] = tuple(line["fits"])
        known["ledger"] = Ledger.from_json(line["ledger"])
        return cls(**known)


@dataclass(frozen=True)
class Standing:
    """What is known of one setting: means over its trials that did not fail.

    score  what the objective makes of it; minus infinity where it does not count.
    """

    setting: int
    fields: tuple[dict[str, Json], ...]
    trials: int
    reward: float
    kl: float | None
    score: float


def standings(trials: Sequence[Trial], objective: Objective) -> list[Standing]:
    """Sum up every setting, in the order they were first tried."""
    found = []
    for setting in dict.fromkeys(trial.setting for trial in trials):
        own = [trial for trial in trials if trial.setting == setting]
        values = [t.reward for t in own if t.reward is not None]
        nats = [t.kl for t in own if t.kl is not None]
        reward = fmean(values) if values else math.nan
        kl = fmean(nats) if nats else None
        counts = bool(values) and len(values) == len(own) and objective.admits(kl)
        score = reward if counts else -math.inf
        found.append(Standing(setting, own[0].fields, len(own), reward, kl, score))
    return found


def best(trials: Sequence[Trial], objective: Objective) -> Standing | None:
    """Give the setting with the highest score, the earliest winning a tie; None if none counts."""
    known = [one for one in standings(trials, objective) if math.isfinite(one.score)]
    return max(known, key=lambda one: (one.score, -one.setting), default=None)


def again(trials: Sequence[Trial], objective: Objective) -> Standing:
    """Say which setting is tried once more, where every setting there is was tried.

    Of the better half the one tried least, the better of two: a setting that was best by luck
    is found out, and none of the budget goes to those that are far behind.
    """
    ranked = sorted(standings(trials, objective), key=lambda one: (-one.score, one.setting))
    contenders = ranked[: max(1, math.ceil(len(ranked) / 2))]
    return min(contenders, key=lambda one: one.trials)


def changed(stack: Stack) -> tuple[dict[str, Json], ...]:
    """Give what differs from the defaults, part by part."""
    return tuple(dict(part.method.changed()) for part in stack.parts)


def setting_of(stack: Stack, fields: Sequence[dict[str, Json]]) -> Stack:
    """Set a stack's fields to stored ones; raises PlumblineError where they do not fit it."""
    if len(fields) != len(stack.parts):
        raise PlumblineError(f"{stack.name} has {len(stack.parts)} parts, not {len(fields)}")
    parts = [
        replace(part, method=replace(part.method, **{k: _value(v) for k, v in own.items()}))
        for part, own in zip(stack.parts, fields, strict=True)
    ]
    return replace(stack, parts=tuple(parts))


def _value(stored: Any) -> Any:
    return tuple(map(_value, stored)) if isinstance(stored, list) else stored


def read(folder: Path) -> list[Trial]:
    """Read a tuning's finished trials."""
    return [Trial.from_json(line) for line in store.read_lines(folder / "trials.jsonl")]


# ---------------------------------------------------------------- in words


def fields_in_words(parts: Sequence[dict[str, Json]]) -> str:
    """Write fields for people; long texts are cut."""
    written = [f"{k}={_short(v)}" for part in parts for k, v in part.items()]
    return ", ".join(written) or "the defaults"


def _short(value: Json) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def in_words(trial: Trial) -> str:
    """Say what came of a trial."""
    what = fields_in_words(trial.fields)
    if trial.reward is None:
        return f"{what}  failed: {' '.join(trial.failed.split())}"
    spread = "" if trial.error is None else f" ± {1.96 * trial.error:.2f}"
    far = "" if trial.kl is None else f"  KL {trial.kl:.2f}"
    less = f"  {trial.left_out} prompts no longer fitted" if trial.left_out else ""
    return f"{what}  reward {trial.reward:.3f}{spread}{far}  {trial.seconds:.0f} s{less}"
