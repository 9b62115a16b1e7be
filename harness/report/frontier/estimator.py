"""The best reward that any policy can have at a given distance from the base model.

Of all policies q with KL(q || p) = k the tilted law p(y) exp(s r(y)) / Z(s) has the largest
E[r]; over several prompts, mean reward at a given mean KL is largest when all prompts share
the strength s.  By duality the frontier is a mean over prompts,

    F(k) = min over s of mean_i (k + log Z_i(s)) / s,

so it is read, and its error known, prompt by prompt.  From M answers of the base model to a
prompt, Z_i is a mean, for every strength at once (self-normalised importance weights, which
need nothing but the rewards).  The log of a mean is too low on average, here by about
(1/ESS_i - 1/M) / 2: what is read is a lower bound of the optimum, and no interval knows of an
answer far better than all that were drawn and too rare to be among them.

Which points are shown: that bias is a mean over prompts of 1/ESS_i, so the rule is put on the
harmonic mean over prompts of the effective sample sizes, which must be at least ``ENOUGH``.

Where M answers say no more, the best of N of them still does: it is a policy, of known reward
(the expected maximum of N of the M, drawn without replacement) and of KL at most
log N - (N-1)/N (Beirami et al. 2024, arXiv 2401.01879).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.report.statistics import LEVEL, Array, Estimate, student

ENOUGH = 10.0  # effective answers, harmonic mean over prompts, below which nothing is shown
STEEPEST = 1e9  # strength per unit of reward range at which a tilt is its own limit
NOTHING = 1e-15  # nats; so little buys less reward than rounding takes
GRID = 64  # strengths between which one is sought
STEPS = 60  # at most, of the search for a strength; Newton's take four or five


@dataclass(frozen=True)
class Tilted:
    """The optimal policy at one strength, prompt by prompt: [prompts] each.

    reward    E_q[r], and its variance under q.
    lift      log Z(s) less s times the prompt's best reward.
    ess       effective number of answers; infinite where the law is known.
    other     E_q of another score of the same answers, where there is one.
    """

    strength: float
    reward: Array
    variance: Array
    kl: Array
    lift: Array
    ess: Array
    other: Array | None = None

    @property
    def effective(self) -> float:
        """Give the harmonic mean over prompts of the effective number of answers."""
        share = float(np.mean(1.0 / self.ess))
        return 1.0 / share if share else math.inf


@dataclass(frozen=True)
class Reading:
    """The frontier at one KL.

    values   [prompts], whose mean is the best reward at mean KL ``kl``; a method's gap is the
             mean of these less its own rewards, and both are resampled like any other column.
    error    standard error of that mean from which base answers were drawn; NaN where
             ``beyond``.
    bias     by how much the mean is too low on average, about.
    room     what one more answer a prompt, as good as its best, would add: of M answers, the best
             has on average a share 1/(M+1) of the base model's above it, and nobody drew that.
    slope    reward that one more nat would buy there; 0 where that is not known, or endless.
    freedom  degrees of freedom of the error.
    beyond   the answers say no more than that the optimum is at least this.
    """

    kl: float
    values: Array
    error: float = math.nan
    bias: float = 0.0
    room: float = 0.0
    slope: float = 0.0
    freedom: float = math.inf
    beyond: bool = False

    @property
    def value(self) -> float:
        """Give the best mean reward, or what it is at least."""
        return float(self.values.mean())

    @property
    def estimate(self) -> Estimate:
        """Give the mean with a 95 % interval for the frontier of these very prompts.

        What varies is which base answers were drawn; the upper end makes ``room``.
        In closed form (the delta method): resampling answers would cost more and say the same.
        """
        n = len(self.values)
        if math.isnan(self.error):
            return Estimate(self.value, n=n, clusters=n)
        wide = student(self.freedom, (1 + LEVEL) / 2) * self.error if self.error else 0.0
        high = self.value + self.room + wide
        return Estimate(self.value, self.value - wide, high, self.error, n, n, self.freedom)


class Frontier:
    """The frontier of some prompts, from samples of the base model or from its whole law.

    rewards  [prompts, answers]; NaN where a prompt has fewer answers than others.
    other    another score of the same answers (gold, where a proxy is the reward).
    log_p    log-probability of each answer where all are listed: nothing is estimated then.

    Raises ValueError where a prompt has no answer.
    """

    def __init__(
        self, rewards: Array, other: Array | None = None, log_p: Array | None = None
    ) -> None:
        there = ~np.isnan(rewards)
        if log_p is not None:
            there &= log_p > -np.inf
        self.exact = log_p is not None
        self.counts = there.sum(axis=1)
        if not self.counts.all() or not len(rewards):
            raise ValueError("a frontier needs prompts, and each an answer with a reward")
        self.rewards = np.where(there, rewards, 0.0)
        self.other = None if other is None else np.where(there, other, 0.0)
        even = np.broadcast_to(-np.log(self.counts)[:, None], rewards.shape)
        self.log_p = np.where(there, even if log_p is None else log_p, -np.inf)
        self.top = np.where(there, rewards, -np.inf).max(axis=1)
        self.range = float((self.top - np.where(there, rewards, np.inf).min(axis=1)).max())
        self._sorted = np.sort(np.where(there, rewards, np.nan), axis=1)

    @property
    def samples(self) -> int:
        """Give the fewest answers that a prompt has."""
        return int(self.counts.min())

    # ------------------------------------------------------------ the tilted law

    def at(self, strength: float) -> Tilted:
        """Give the optimal policy at a strength; 0 is the base model."""
        weights = np.exp(self.log_p + strength * (self.rewards - self.top[:, None]))
        total = weights.sum(axis=1)
        weights /= total[:, None]
        reward = (weights * self.rewards).sum(axis=1)
        away = self.rewards - reward[:, None]
        lift = np.log(total)
        return Tilted(
            strength,
            reward,
            (weights * away**2).sum(axis=1),
            np.maximum(strength * (reward - self.top) - lift, 0.0),
            lift,
            np.full(len(total), np.inf) if self.exact else 1.0 / (weights**2).sum(axis=1),
            None if self.other is None else (weights * self.other).sum(axis=1),
        )

    @cached_property
    def steepest(self) -> float:
        """Give the largest strength with enough effective answers; it is finite."""
        if self.range == 0.0 or self.at(0.0).effective < ENOUGH:
            return 0.0
        low, high = 0.0, STEEPEST / self.range
        if self.at(high).effective >= ENOUGH:
            return high
        high = 1.0 / self.range
        while self.at(high).effective >= ENOUGH:
            low, high = high, 2 * high
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.at(middle).effective >= ENOUGH else (low, middle)
        return low

    @cached_property
    def reach(self) -> float:
        """Give the mean KL up to which there are enough effective answers."""
        return float(self.at(self.steepest).kl.mean())

    @cached_property
    def curve(self) -> list[Tilted]:
        """Give the frontier's points, from the base model to where the answers end."""
        if self.steepest == 0.0:
            return [self.at(0.0)]
        last = min(self.steepest, 1e3 / self.range)  # beyond, a known law only nears its limit
        first = min(1e-3 / self.range, last / 2)
        strengths = {0.0, *np.geomspace(first, last, GRID - 1).tolist(), self.steepest}
        return [self.at(strength) for strength in sorted(strengths)]

    def strength(self, kl: float) -> float:
        """Find the strength of mean KL ``kl``; ``steepest`` where none is so far away."""
        if kl <= NOTHING:
            return 0.0
        if kl >= self.reach:
            return self.steepest
        reached = [float(tilted.kl.mean()) for tilted in self.curve]
        place = next(i for i, far in enumerate(reached) if far > kl)
        low, high = self.curve[place - 1].strength, self.curve[place].strength
        now = (low + high) / 2
        for _ in range(STEPS):
            tilted = self.at(now)
            over = float(tilted.kl.mean()) - kl
            if abs(over) <= 1e-9 * kl:  # what is read there errs by the square
                break
            low, high = (low, now) if over > 0 else (now, high)
            slope = now * float(tilted.variance.mean())  # of the mean KL
            step = now - over / slope if slope else low
            now = step if low < step < high else (low + high) / 2
        return now

    # ------------------------------------------------------------- what is read

    def best(self, kl: float) -> Reading:
        """Read the best mean reward at a mean KL of at most ``kl`` nats."""
        near = self._read(self.at(self.strength(kl)), min(kl, self.reach), kl)
        if self.exact or kl <= self.reach:
            return near
        n = 1
        while n < self.samples and divergence_bound(n + 1) <= kl:
            n += 1
        chosen = self.best_of([n])[:, 0]
        values = chosen if chosen.mean() > near.value else near.values
        return Reading(kl, values, beyond=True)

    @cached_property
    def band(self) -> list[Estimate]:
        """Give each of the curve's points with the interval of its reading."""
        kls = [float(tilted.kl.mean()) for tilted in self.curve]
        pairs = zip(self.curve, kls, strict=True)
        return [self._read(tilted, kl, kl).estimate for tilted, kl in pairs]

    def _read(self, tilted: Tilted, at: float, kl: float) -> Reading:
        """Read at mean KL ``at``, for which the tilted law is the best; ``kl`` was asked for."""
        s, n = tilted.strength, len(tilted.reward)
        values = tilted.reward if s == 0.0 else self.top + (at + tilted.lift) / s
        slope = 1 / s if s and kl <= self.reach else 0.0
        if self.exact:
            return Reading(kl, values, 0.0, slope=slope)
        m, room = np.maximum(self.counts, 2), 0.0
        if s == 0.0:
            noise = tilted.variance / (m - 1)
        else:
            noise = np.maximum(1 / tilted.ess - 1 / m, 0.0) * m / (m - 1) / s**2
            weight = np.exp(tilted.lift) * self.counts  # of all answers, the best one's being 1
            room = float(np.log((1 + 1 / weight) / (1 + 1 / self.counts)).mean()) / s
        return Reading(
            kl,
            values,
            math.sqrt(float(noise.sum())) / n,
            s * float(noise.mean()) / 2,
            room,
            slope,
            max(1.0, n * (tilted.effective - 1)),
        )

    def best_of(self, numbers: Sequence[int]) -> Array:
        """Give E[max of N answers, drawn without replacement] for each N: [prompts, numbers].

        Raises ValueError for an N above the number of a prompt's answers, or a known law.
        """
        if self.exact or max(numbers) > self.samples:
            raise ValueError(f"best of {max(numbers)} from {self.samples} answers")
        out = np.empty((len(self.rewards), len(numbers)))
        for m in np.unique(self.counts):
            mine = self.counts == m
            weights = np.stack([selected(int(m), n) for n in numbers])
            out[mine] = self._sorted[mine, :m] @ weights.T
        return out


def selected(m: int, n: int) -> Array:
    """Give the chance of each of m answers, worst first, to be the best of n of them: [m]."""
    out = np.zeros(m)
    i = np.arange(m, n, -1)
    out[n - 1 :] = (n / m * np.cumprod([1.0, *((i - n) / (i - 1))]))[::-1]
    return out


def divergence_bound(n: int) -> float:
    """Largest KL(best of n || base), in nats."""
    return math.log(n) - (n - 1) / n
