"""The ``Benchmark`` interface: raw items in, prompts and scorers out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from harness.records import Json, Preference, Prompt


@dataclass
class Read:
    """What came of reading a set: the prompts, and a count of everything odd or left out.

    notes  reason -> how many; printed, stored with the run, shown under the table.
    """

    prompts: list[Prompt] = field(default_factory=list)
    pairs: list[Preference] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


class Benchmark(ABC):
    """A list of prompts and the scorers that read the responses.

    Items arrive raw, in the set's published schema, from the source the
    protocol names: a data set, a file, or a world.  The benchmark cannot tell.

    title     how tables call it.
    about     one line for ``make list``.
    headline  scorers in order of preference; the first that the protocol can
              measure is the pre-declared headline of this benchmark's table.
    scorers   names under benchmarks/metrics or benchmarks/judges.
    sampling  the set's own rule where it has one: fields of Sampling; the
              protocol's [sampling] section stands above it.
    cluster   what one independent unit is, in words.
    max_prompt_tokens  prompts longer than this are excluded, and counted, by the
              runner, which has the tokenizer; None where the set has no such rule.
    """

    title: ClassVar[str]
    about: ClassVar[str]
    headline: ClassVar[tuple[str, ...]] = ("gold", "win_rate", "reward")
    scorers: ClassVar[tuple[str, ...]]
    sampling: ClassVar[Mapping[str, Json]] = {}
    cluster: ClassVar[str] = "prompt"
    max_prompt_tokens: ClassVar[int | None] = None

    @abstractmethod
    def read(self, items: Iterable[Mapping[str, Json]]) -> Read:
        """Turn raw items into prompts (and pairs, for a training source)."""

    def sampling_for(self, prompt: Prompt) -> Mapping[str, Json]:
        """Give the set's own rule for one prompt (MT-Bench: temperature by category)."""
        return self.sampling

    def training(self, items: Iterable[Mapping[str, Json]]) -> Sequence[Preference]:
        """Give the preference pairs, for sets that have them."""
        return self.read(items).pairs
