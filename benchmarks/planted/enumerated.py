"""Exact reward, exact KL and the gap to the frontier of a method, by enumeration.

The tokens of every answer are teacher-forced through the harness's own ``logprobs``,
so whatever has a density (prompt edits, weights, hidden states, logits) is exact.
Best-of-N is exact too: its score is read for every answer and its law follows from the
candidates'.  Anything else (searches by blocks, rules of their own, stop strings) is sampled
through ``decode``, and the row says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.planted.candidates import best_of
from benchmarks.planted.frontier import Frontier, Point
from benchmarks.planted.language import BUDGET
from benchmarks.planted.tree import Tree, divergence, expected, prefixes
from harness.api import Chat, PlumblineError, Prompt, Sampling, Score, Steering, Step

if TYPE_CHECKING:
    from harness.engine.jobs import Job
    from harness.engine.model import Model

Truth = Callable[[Chat, str], float]
SAMPLES = 256  # answers drawn per prompt where nothing exact can be said


@dataclass(frozen=True)
class Row:
    """What a method gets and what it pays, on one prompt or on average.

    reward  E[r].
    kl      KL(method || base) in nats, or None where it is not known.
    gap     reward lost against the best policy of that KL, or None.
    exact   False where ``reward`` is a mean over samples; ``error`` is then its standard error.
    """

    prompt: str
    reward: float
    kl: float | None
    gap: float | None
    exact: bool = True
    error: float = 0.0


@dataclass(frozen=True)
class Report:
    """A row for each prompt, and their average.

    The average's gap is held against the frontier of all prompts together, which may
    spend KL where it pays most; it is at least the mean of the prompts' own gaps.
    """

    rows: tuple[Row, ...]
    overall: Row

    def scores(self) -> dict[str, list[Score]]:
        """Give the exact rows as columns of scores; a sampled row has no score."""
        columns: dict[str, list[Score]] = {"exact_reward": [], "exact_kl": [], "gap": []}
        for row in self.rows:
            if row.exact:
                values = (row.reward, row.kl, row.gap)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(Score(row.prompt, 0, value))
        return columns


class Enumerated:
    """Every answer of a tiny model to a few prompts, and their rewards.

    The model's end token must be the last of its vocabulary, as in ``planted``.  Only the
    first turn of a prompt is enumerated.
    """

    def __init__(
        self, model: Model, prompts: Sequence[Prompt], truth: Truth, budget: int = BUDGET
    ) -> None:
        if model.ends != (model.vocabulary - 1,):
            raise PlumblineError(
                f"{model.name}: enumeration needs one end token, the last of the vocabulary"
            )
        self.model = model
        self.prompts = prompts
        self.truth = truth
        self.budget = budget

    @property
    def branch(self) -> int:
        """How many tokens go on."""
        return self.model.vocabulary - 1

    @cached_property
    def answers(self) -> list[tuple[int, ...]]:
        """Tokens of every answer: [leaves]."""
        levels = tuple(torch.zeros(self.branch**d, self.branch + 1) for d in range(self.budget))
        return Tree(levels, self.branch).leaves()

    @cached_property
    def texts(self) -> list[str]:
        """Words of every answer: [leaves]."""
        return [self.model.text(tokens).strip() for tokens in self.answers]

    @cached_property
    def rewards(self) -> list[Tensor]:
        """The truth about every answer: [leaves] for each prompt."""
        return [self._judged(prompt.chat) for prompt in self.prompts]

    @cached_property
    def base(self) -> list[Tree]:
        """The base model's law for each prompt."""
        return [self.tree(prompt) for prompt in self.prompts]

    @cached_property
    def frontier(self) -> Frontier:
        """The best average reward at each average KL."""
        return Frontier([tree.log_law() for tree in self.base], self.rewards)

    def tree(self, prompt: Prompt, steering: Steering | None = None) -> Tree:
        """Enumerate the steered model; raises NoDensity where there is none (a search)."""
        from harness.engine.density import logprobs

        jobs = [self._job(prompt)] * len(self.answers)
        found = logprobs(self.model, jobs, self.answers, steering, batch_rows=1024)
        return Tree.of_leaves(found, self.branch, self.budget)

    def law(self, prompt: Prompt, steering: Steering) -> Tensor | None:
        """Log-probability of every answer under a method, or None where it has no closed form."""
        from harness.engine.density import NoDensity

        search = steering.search
        own_rules = search is not None and (search.blocks or search.select or search.choose)
        if own_rules or steering.stop:
            return None
        try:
            one = self.tree(prompt, steering.without_search()).log_law()
        except NoDensity:
            return None
        if search is None:
            return one
        return best_of(one, self._scores(prompt, steering), search.width)

    def report(self, steering: Steering, *, samples: int = SAMPLES, seed: int = 0) -> Report:
        """Measure a method on every prompt, exactly where it can be done."""
        rows = [self._row(i, steering, samples, seed) for i in range(len(self.prompts))]
        n = len(rows)
        reward = sum(row.reward for row in rows) / n
        kls = [row.kl for row in rows if row.kl is not None]
        kl = sum(kls) / n if len(kls) == n else None
        gap = None if kl is None else self.frontier.gap(Point(reward, kl))
        error = math.sqrt(sum(row.error**2 for row in rows)) / n
        exact = all(row.exact for row in rows)
        return Report(tuple(rows), Row("all", reward, kl, gap, exact, error))

    # ---------------------------------------------------------------- inside

    def _row(self, number: int, steering: Steering, samples: int, seed: int) -> Row:
        prompt = self.prompts[number]
        law = self.law(prompt, steering)
        if law is None:
            return self._sampled(number, steering, samples, seed)
        base, rewards = self.base[number].log_law(), self.rewards[number]
        point = Point(expected(law, rewards), divergence(law, base))
        gap = Frontier([base], [rewards]).gap(point)
        return Row(prompt.id, point.reward, point.kl, gap)

    def _sampled(self, number: int, steering: Steering, samples: int, seed: int) -> Row:
        from harness.engine.decoding import decode

        prompt = self.prompts[number]
        jobs = [self._job(prompt, f"#{i}") for i in range(samples)]
        drawn = decode(self.model, jobs, steering, seed=seed, batch_rows=1024)
        values = [self.truth(prompt.chat, one.text) for batch in drawn for one in batch]
        found = torch.tensor(values, dtype=torch.float64)
        error = float(found.std() / math.sqrt(samples))
        return Row(prompt.id, float(found.mean()), None, None, exact=False, error=error)

    def _job(self, prompt: Prompt, suffix: str = "") -> Job:
        from harness.engine.jobs import Job

        return Job(prompt.id + suffix, prompt.chat, Sampling(max_new_tokens=self.budget))

    def _judged(self, chat: Chat) -> Tensor:
        known = {text: self.truth(chat, text) for text in dict.fromkeys(self.texts)}
        return torch.tensor([known[text] for text in self.texts], dtype=torch.float64)

    def _scores(self, prompt: Prompt, steering: Steering) -> Tensor:
        """Let the search score every answer: each is a candidate whose tokens are forced."""
        from harness.engine.decoding import decode

        assert steering.search is not None
        script = torch.zeros((len(self.answers), self.budget), dtype=torch.long)
        for row, tokens in enumerate(self.answers):
            script[row, : len(tokens)] = torch.tensor(tokens)

        def play(logits: Tensor, step: Step) -> Tensor:
            said = script[step.rows.slot.cpu(), step.index].to(logits.device)
            return torch.full_like(logits, -torch.inf).scatter(-1, said[:, None], 0.0)

        forced = replace(
            steering,
            logits=(*steering.logits, play),
            search=replace(steering.search, width=len(self.answers)),
        )
        [[one]] = decode(self.model, [self._job(prompt)], forced, batch_rows=len(self.answers))
        assert [c.tokens for c in one.pool] == self.answers
        return torch.tensor([c.score for c in one.pool], dtype=torch.float64)


def listed(model: Model, prompt: Prompt, budget: int = BUDGET) -> dict[str, float]:
    """Give every text the model can answer, and the log of its probability.

    Texts that several strings of tokens share are added up.
    """
    from harness.engine.density import forced
    from harness.engine.jobs import Job

    branch = model.vocabulary - 1
    longest = [(*begun, 0) for begun in prefixes(branch, budget - 1)]
    jobs = [Job(prompt.id, prompt.chat, Sampling(max_new_tokens=budget))] * len(longest)
    table = torch.empty(len(longest), budget, branch + 1, dtype=torch.float64)
    for batch, logits in forced(model, jobs, longest, Steering(), 1024):
        table[batch] = logits.double().cpu()
    tree = Tree.of_table(table, branch)
    mass: dict[str, float] = {}
    for tokens, p in zip(tree.leaves(), tree.log_law().exp().tolist(), strict=True):
        text = model.text(tokens).strip()
        mass[text] = mass.get(text, 0.0) + p
    return {text: math.log(p) for text, p in mass.items() if p > 0.0}
