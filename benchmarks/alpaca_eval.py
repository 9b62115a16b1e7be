"""AlpacaEval: 805 instructions from five sources, judged against a reference answer.

Li et al., AlpacaEval (2023); Dubois et al., "Length-Controlled AlpacaEval", arXiv 2404.04475.
Schema: a list of ``{"instruction", "output", "generator", "dataset"}``, or lines with ``idx``.
The outputs are the reference answers.  A source may name a further file of outputs (any model's,
in the same schema) as its references; those stand above outputs beside the instructions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

from benchmarks._reading import Ids, cluster, digest, is_reference, text, usable
from harness.api import Benchmark, Chat, Json, Prompt, Read

REPEATED = "repeated instructions (kept, one cluster)"
EMPTY = "empty instructions (left out)"
NO_REFERENCE = "instructions without a reference answer (kept)"
EMPTY_REFERENCE = "empty reference answers (kept, empty)"
STRAY = "reference answers to no instruction (unused)"


class AlpacaEval(Benchmark):
    """Answers to single instructions, compared with a reference model's."""

    title: ClassVar[str] = "AlpacaEval"
    about: ClassVar[str] = "805 instructions; answers compared with a reference model's"
    headline: ClassVar[tuple[str, ...]] = ("gold", "win_rate", "reward")
    scorers: ClassVar[tuple[str, ...]] = (
        "reward",
        "optimised_reward",
        "gold",
        "diversity",
        "coherence",
        "refusal",
        "length",
    )
    sampling: ClassVar[Mapping[str, Json]] = {"max_new_tokens": 2048}
    cluster: ClassVar[str] = "prompt"

    def read(self, items: Iterable[Mapping[str, Json]]) -> Read:
        """Turn instructions, and outputs where they come, into prompts with references.

        Raises PlumblineError for a missing field or where nothing is usable.
        """
        read, ids = Read(), Ids()
        references: dict[str, str] = {}
        for number, item in enumerate(items, 1):
            instruction = text(item, "instruction", number)
            if is_reference(item):
                references[instruction] = text(item, "output", number)
                continue
            if not instruction.strip():
                read.notes[EMPTY] += 1
                continue
            key, name = digest(instruction), ids(instruction)
            if name != key:
                read.notes[REPEATED] += 1
            dataset = item.get("dataset")
            read.prompts.append(
                Prompt(
                    name,
                    Chat.of(instruction),
                    reference=text(item, "output", number) if "output" in item else None,
                    cluster=cluster(item, key, number),
                    category=None if dataset is None else text(item, "dataset", number),
                )
            )
        if references:
            _refer(read, references)
        for prompt in read.prompts:
            if prompt.reference is None:
                read.notes[NO_REFERENCE] += 1
            elif not prompt.reference.strip():
                read.notes[EMPTY_REFERENCE] += 1
        return usable(read, self.title)


def _refer(read: Read, references: Mapping[str, str]) -> None:
    """Put the reference file's answers in; what matches no instruction is counted."""
    read.prompts[:] = [replace(p, reference=references.get(p.chat.last_user)) for p in read.prompts]
    stray = len(set(references) - {p.chat.last_user for p in read.prompts})
    if stray:
        read.notes[STRAY] += stray
