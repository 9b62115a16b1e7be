"""What is asked under a protocol: a benchmark's prompts, and the pairs methods are fitted on.

Whatever is left out is counted: prompts too long for their own rule or for the
model, training pairs that open with a question some benchmark asks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.conduct import plugins
from harness.conduct.overlap import overlap
from harness.conduct.setting import Setting
from harness.conduct.sources import load_items
from harness.conduct.store import digest
from harness.conduct.terms import Data, Source
from harness.contracts.benchmark import Benchmark, Read
from harness.engine.sampling import Sampling
from harness.errors import PlumblineError
from harness.records import Json, Preference, Prompt

OVERLAPPING = "training pairs that open with a benchmark's question (left out of fitting)"


@dataclass(frozen=True)
class Questions:
    """A benchmark's prompts as they are asked, each with how it is sampled.

    notes  reason -> count of everything odd or left out.
    """

    name: str
    benchmark: Benchmark
    prompts: tuple[Prompt, ...]
    sampling: dict[str, Sampling]
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def plain(self) -> bool:
        """True where every answer is a plain sample of the model's own distribution."""
        return all(s.plain for s in self.sampling.values())

    def digest(self) -> str:
        """Digest what is asked; part of a run's key."""
        return digest([[p.id, p.chat.to_dicts(), list(p.turns)] for p in self.prompts])

    def first(self, count: int | None) -> Questions:
        """Keep the first ``count`` prompts; all where None."""
        kept = self.prompts[:count]
        return replace(self, prompts=kept, sampling={p.id: self.sampling[p.id] for p in kept})


def ask(setting: Setting, name: str) -> Questions:
    """Read a benchmark's prompts and leave out, counted, those that cannot be asked."""
    benchmark = plugins.benchmark(name)
    found = read(setting, name, benchmark)
    notes = Counter(found.notes)
    longest: int | None = getattr(benchmark, "max_prompt_tokens", None)
    asked, sampling, seen = [], {}, set()
    for prompt in found.prompts:
        if prompt.id in seen:
            raise PlumblineError(f"benchmark {name} gives two prompts the id {prompt.id!r}")
        seen.add(prompt.id)
        how = Sampling(**setting.protocol.draw(name, benchmark.sampling_for(prompt)))
        size = len(setting.model.encode(prompt.chat))
        if not prompt.chat.last_user.strip():
            notes["empty prompts (left out)"] += 1
        elif longest is not None and size > longest:
            notes[f"prompts over {longest} tokens (left out)"] += 1
        elif size + how.max_new_tokens > setting.model.context:
            notes[
                f"prompts that with {how.max_new_tokens} new tokens exceed the model's context "
                f"of {setting.model.context} (left out)"
            ] += 1
        else:
            asked.append(prompt)
            sampling[prompt.id] = how
    if not asked:
        why = "; ".join(f"{count} {reason}" for reason, count in notes.items())
        raise PlumblineError(f"benchmark {name}: no prompt is left to ask ({why or 'none read'})")
    kept = some(asked, setting.protocol.sections.data[name].count)
    if len(kept) < len(asked):
        notes[f"prompts of {len(asked)} asked, as the protocol wants"] = len(kept)
    return Questions(name, benchmark, kept, {p.id: sampling[p.id] for p in kept}, notes)


def some(prompts: Sequence[Prompt], count: int | None) -> tuple[Prompt, ...]:
    """Keep ``count`` prompts, in order: those whose ids have the smallest digests."""
    kept = {p.id for p in sorted(prompts, key=lambda p: digest(p.id))[:count]}
    return tuple(p for p in prompts if p.id in kept)


@dataclass(frozen=True)
class Training:
    """Pairs for fitting and for choosing strengths; ``notes`` says what was left out."""

    pairs: tuple[Preference, ...] = ()
    dev: tuple[Preference, ...] = ()
    notes: Counter[str] = field(default_factory=Counter)

    def digests(self) -> dict[str, str]:
        """Digest both sets; part of a fit's key."""
        return {"pairs": _pairs_digest(self.pairs), "dev": _pairs_digest(self.dev)}


def training(setting: Setting) -> Training:
    """Read the protocol's pairs, leave out what a benchmark asks, permute, cut to size."""
    section = setting.protocol.sections.training
    if section.pairs is None:
        return Training()
    reader = plugins.benchmark(section.reader)
    asked = [
        prompt
        for name in setting.protocol.sections.data
        for prompt in read(setting, name, plugins.benchmark(name)).prompts
    ]
    notes: Counter[str] = Counter()
    pairs = _clean(_pairs(setting, reader, section.pairs), asked, notes)
    dev = _clean(_pairs(setting, reader, section.dev), asked, notes) if section.dev else []
    random.Random(section.seed).shuffle(pairs)
    return Training(tuple(pairs[: section.count]), tuple(dev), notes)


def _clean(
    pairs: list[Preference], asked: Sequence[Prompt], notes: Counter[str]
) -> list[Preference]:
    taken = overlap(pairs, asked)
    notes.update({OVERLAPPING: len(taken)} if taken else {})
    return [pair for pair in pairs if pair.id not in taken]


def _pairs(setting: Setting, reader: Benchmark, source: Source) -> list[Preference]:
    return list(reader.training(load_items(source.mapping(), _folder(setting, source))))


def read(setting: Setting, name: str, benchmark: Benchmark) -> Read:
    """Read a benchmark's items as they come, before anything is left out for its length."""
    source = setting.protocol.sections.data[name]
    return benchmark.read(load_items(source.mapping(), _folder(setting, source)))


def _folder(setting: Setting, source: Source) -> Path | None:
    answers = source.references if isinstance(source, Data) else None
    named = source.world or (answers.world if answers else None)
    return setting.folder if named else None


def _pairs_digest(pairs: Sequence[Preference]) -> str:
    lines: Json = [[p.prompt.to_dicts(), p.chosen, p.rejected] for p in pairs]
    return digest(lines)
