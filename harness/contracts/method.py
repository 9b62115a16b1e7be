"""The ``Method`` interface, what it is granted, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.chat import Chat
from harness.contracts.budget import Budget, Chosen
from harness.engine.steering import Site, Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Json, Preference, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.decoding import Decoded
    from harness.engine.model import Model
    from harness.engine.recording import At, Recorded
    from harness.engine.reward import RewardModel
    from harness.engine.sampling import Sampling

Need = Literal["pairs", "reward", "queries", "gradients", "gold", "words", "aligned"]
NEEDS: dict[str, str] = {
    "pairs": "labelled preference pairs",
    "reward": "a granted reward model",
    "queries": "the unlabelled test prompts (the row is marked transductive)",
    "gradients": "gradients through the policy",
    "gold": "the evaluation reward itself (the row is marked a ceiling)",
    "words": "a model that reads words, which the enumerable world does not",
    "aligned": "an aligned model ([models.aligned])",
}


@dataclass(frozen=True)
class Fitted:
    """What was learned: named tensors, and facts a person may want to read."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Json] = field(default_factory=dict)


class Kit:
    """All that a run may use.

    model   the frozen policy.
    models  further models the protocol names, by role ("aligned", "small", ...).
    left    what the methods to the left in a stack do to the model.
    """

    def __init__(
        self,
        model: Model,
        *,
        reward: RewardModel | None = None,
        models: Mapping[str, Model] | None = None,
        sampling: Sampling | None = None,
        left: Steering | None = None,
        batch_rows: int = 64,
    ) -> None:
        from harness.engine.sampling import Sampling

        self.model = model
        self.models = dict(models or {})
        self.sampling = sampling or Sampling()
        self.left = left or Steering()
        self.batch_rows = batch_rows
        self._reward = reward

    @property
    def reward(self) -> RewardModel:
        """The granted reward model; the evaluation reward for a method that needs "gold"."""
        if self._reward is None:
            raise PlumblineError(
                "this protocol grants no reward model ([rewards] granted is empty)"
            )
        return self._reward

    def after(self, left: Steering) -> Kit:
        """Give the same kit to a method with these neighbours on its left."""
        other = copy(self)
        other.left = left
        return other

    def record(
        self,
        chats: Sequence[Chat],
        answers: Sequence[Sequence[int]],
        sites: Sequence[Site],
        at: At = "last",
        *,
        steering: Steering | None = None,
    ) -> Iterator[Recorded]:
        """Stream hidden states of given texts, through ``left`` unless told otherwise.

        See ``engine.recording.record``.  Inside ``Steering.prepare`` the weights are
        already changed: pass a steering without ``weights``.
        """
        from harness.engine.recording import record

        steer = self.left if steering is None else steering
        rows = self.batch_rows
        return record(self.model, chats, answers, sites, at, steering=steer, batch_rows=rows)


class Lab(Kit):
    """All that fitting may use.  Everything it hands out is counted.

    pairs    training preferences, cut to the protocol's size.
    dev      development preferences, for choosing strengths.
    seed     the only source of a fit's randomness.
    scratch  a folder for what does not fit in memory; deleted after the fit.
    budget   how often the development prompts may be answered; counted by ``generate``.

    In a stack ``a+b``, b's lab generates and records through a's Steering (``left``).
    """

    def __init__(
        self,
        model: Model,
        *,
        pairs: Sequence[Preference] = (),
        dev: Sequence[Preference] = (),
        queries: Sequence[Prompt] = (),
        seed: int = 0,
        scratch: Path | None = None,
        budget: Budget | None = None,
        **kit: Any,
    ) -> None:
        super().__init__(model, **kit)
        self.budget = budget or Budget()
        self.pairs = pairs
        self.dev = dev
        self.seed = seed
        self.scratch = scratch
        self.transductive = False
        self._queries = queries

    @property
    def queries(self) -> Sequence[Prompt]:
        """Unlabelled test prompts; reading them marks the run "transductive"."""
        self.transductive = True
        return self._queries

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        sampling: Sampling | None = None,
        steering: Steering | None = None,
    ) -> list[Decoded]:
        """Let the model, steered by the left neighbours, answer each prompt's chat.

        Prompts of the development pairs cost one evaluation a call; raises BudgetSpent
        where none is left.
        """
        from harness.engine.decoding import Job, decode

        held = {p.prompt for p in self.dev} - {p.prompt for p in self.pairs}
        if any(p.chat in held for p in prompts):
            self.budget.spend("a fit")
        how = sampling or self.sampling
        jobs = [Job(p.id, p.chat, how) for p in prompts]
        steer = self.left if steering is None else steering
        done: dict[int, Decoded] = {}
        for batch in decode(self.model, jobs, steer, seed=self.seed, batch_rows=self.batch_rows):
            done |= {d.job: d for d in batch}
        return [done[i] for i in range(len(jobs))]


@dataclass(frozen=True)
class Method(ABC):
    """One way of aligning a frozen language model at test time.

    The fields are the hyper-parameters and the file name is the name; building
    a method does no work.  A method acts at two moments:

    fit     Once per (protocol, training pairs, hyper-parameters, methods to its
            left).  May be slow, may train, may draw random numbers from
            ``lab.seed``.  Returns plain tensors and facts; the harness stores
            them, so a fit is never repeated.
    steer   At the start of every run.  Quick and deterministic: turns what was
            fitted into a Steering.  No training, no files, no randomness.

    A method never generates a benchmark response.  It says what may be touched
    on the way -- prompt, weights, hidden states, logits, the choice among
    candidates -- and the harness decodes, so that batching, caching, sampling,
    stopping and accounting are the same for every row of a table.

    needs         what the protocol must grant, or the method is skipped with a reason.
    search_space  field -> values worth trying; the same for every benchmark.
    neutral       field values at which the method equals the base model, or None.
    control       True for a row that shows what the scorers can be fooled by.
    tries         True for a method whose fit answers development prompts to choose a setting;
                  with no evaluation left in ``lab.budget`` it takes its usual one.
    presets       further name -> field values: what the literature calls a setting of it.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {}
    neutral: ClassVar[Mapping[str, object] | None] = None
    control: ClassVar[bool] = False
    tries: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    def fit(self, lab: Lab) -> Fitted:
        """Learn whatever is learned.  Default: nothing."""
        return Fitted()

    @abstractmethod
    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Say what to touch while a response is decoded."""

    def fits(self) -> bool:
        """Say whether the method, set as it is, learns anything: a fit is stored, and has seeds."""
        return type(self).fit is not Method.fit

    def unused(self) -> frozenset[str]:
        """Name fields that change nothing, set as the others are: tuning tries no two alike."""
        return frozenset()

    def settings(self) -> dict[str, Json]:
        """Give every field and its value."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def changed(self) -> dict[str, Json]:
        """Give the fields that differ from their defaults: what a table's row is labelled by."""
        default = type(self)()
        return {k: v for k, v in self.settings().items() if v != getattr(default, k)}


@dataclass(frozen=True)
class Named:
    """A method and the name its file gives it.

    fraction  the share of the protocol's pairs that it is fitted on.
    """

    name: str
    method: Method
    fraction: float = 1.0

    def changed(self) -> dict[str, Json]:
        """Give what differs from the method as it is by default, the share of pairs included."""
        less: dict[str, Json] = {} if self.fraction == 1 else {"fraction": self.fraction}
        return less | self.method.changed()

    @property
    def label(self) -> str:
        """``name(field=value,...)`` with the fields that differ from the defaults."""
        changed = ",".join(f"{k}={_written(v)}" for k, v in self.changed().items())
        return f"{self.name}({changed})" if changed else self.name


def _written(value: Json) -> str:
    """Write a field's value as ``METHOD=`` reads it back: in quotes where it has signs."""
    text = str(value)
    if not isinstance(value, str) or not set(text) & set(",+=()[]'\""):
        return text
    return f'"{text}"' if "'" in text else f"'{text}'"


@dataclass(frozen=True)
class Stack:
    """Methods applied together, left to right; each is fitted on the model its left has steered.

    chosen  how the fields were chosen; None where they are the defaults, or a user's own.
    """

    parts: tuple[Named, ...]
    chosen: Chosen | None = None

    @property
    def label(self) -> str:
        """Give what stands in a table's first column, and in ``METHOD=``."""
        written = "+".join(part.label for part in self.parts)
        return f"{written} [{self.chosen.words}]" if self.chosen else written

    @property
    def name(self) -> str:
        """Name the methods without their fields."""
        return "+".join(part.name for part in self.parts)

    @property
    def needs(self) -> frozenset[Need]:
        """Everything any part needs."""
        return frozenset().union(*(part.method.needs for part in self.parts))

    def steer(self, kit: Kit, fitted: Sequence[Fitted]) -> Steering:
        """Sum the parts' steerings, left first."""
        total = Steering()
        for part, learned in zip(self.parts, fitted, strict=True):
            total = total + part.method.steer(kit.after(total), learned)
        return total


__all__ = ["NEEDS", "Fitted", "Kit", "Lab", "Ledger", "Method", "Named", "Need", "Stack"]
