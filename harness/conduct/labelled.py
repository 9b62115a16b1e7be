"""Pairs of answers with a label of who is better: what a judge is calibrated on.

A file's schema is known by its fields, whatever it is called:

    input, output_1, output_2, label (1 or 2)        LLMBar, and its MT-Bench pairs
    chosen, rejected                                 HH-RLHF and HHH as dialogues
    input, targets {choices, labels}                 HHH as BIG-bench publishes it
    conversation_a, conversation_b, winner           the human votes of MT-Bench
    question, answer_a, answer_b, label (A, B, tie)  your own

Nothing of these sets is shipped; ``SOURCES`` says where each is from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.chat import Chat, Message
from harness.conduct import plugins
from harness.conduct.files import Item, read_items
from harness.conduct.terms import Training
from harness.conduct.worlds import cache_root
from harness.errors import PlumblineError
from harness.records import Json, Preference

SOURCES = (
    "LLMBar and its 200 MT-Bench pairs (github.com/princeton-nlp/LLMBar), "
    "HHH alignment (BIG-bench, or HuggingFaceH4/hhh_alignment on the Hub), "
    "HH-RLHF test pairs (github.com/anthropics/hh-rlhf), "
    "MT-Bench human votes (lmsys/mt_bench_human_judgments on the Hub)"
)
SHOWN = 6  # fields of an unknown file that are named
ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


class UnknownSchema(PlumblineError):
    """A file whose fields are those of no set of labelled pairs."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one conversation and who is better: 1 A, 0 B, 0.5 neither."""

    id: str
    chat: Chat
    a: str
    b: str
    label: float


@dataclass(frozen=True)
class LabelledSet:
    """One set of pairs.

    name    how tables call it; labels: who gave the labels ("people", "gold").
    pairs   those to be judged; whole: how many there are in the set.
    """

    name: str
    labels: str
    pairs: tuple[Pair, ...]
    whole: int

    def first(self, count: int | None) -> LabelledSet:
        """Keep so many pairs, drawn by a hash of their names; all where None or 0."""
        drawn = sorted(self.pairs, key=lambda pair: _hash(pair.id))
        return replace(self, pairs=tuple(drawn[: count or None]))

    def check(self) -> LabelledSet:
        """Raise where all labels are one: agreement with them would say nothing."""
        labels = {pair.label for pair in self.pairs}
        if len(labels) == 1:
            what = {1.0: "A", 0.0: "B", 0.5: "tie"}[labels.pop()]
            raise PlumblineError(
                f"{self.name}: all {len(self.pairs)} labels are {what!r}; a judge that always "
                f"says {what!r} would agree with every one, so calibration needs a set in which "
                "both A and B win"
            )
        return self


def folder() -> Path:
    """Give the folder in which label files are looked for."""
    return cache_root() / "labels"


def find(names: Iterable[str]) -> list[Path]:
    """Find the files that are named (a folder stands for all in it), or all in ``folder()``."""
    named = [Path(name).expanduser() for name in names] or [folder()]
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.name.endswith(ENDINGS))
        elif path.is_file():
            found.append(path)
        elif path != folder():
            raise PlumblineError(f"{path}: no such file; label files are {', '.join(ENDINGS)}")
    return found


def read(path: Path) -> LabelledSet:
    """Read a file of labelled pairs.

    Raises PlumblineError for a file of no known schema, a label that is none, or no pair.
    """
    items = list(read_items(path))
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    if not items:
        raise PlumblineError(f"{path}: no pair in it")
    fields = set(items[0])
    for schema, reader in SCHEMAS.items():
        if set(schema) <= fields:
            return LabelledSet(name, "people", tuple(_distinct(reader(items))), len(items)).check()
    shapes = "; ".join(", ".join(schema) for schema in SCHEMAS)
    named = ", ".join(sorted(fields)[:SHOWN]) + (", …" if len(fields) > SHOWN else "")
    raise UnknownSchema(
        f"{items[0].where}: its fields ({named}) are those of no set of labelled pairs; "
        f"known are {shapes}"
    )


def by_gold(
    name: str, pairs: Iterable[Preference], gold: Callable[[Chat, str], Mapping[str, float]]
) -> LabelledSet:
    """Label a world's pairs by its planted truth, which may disagree with their order."""
    made = []
    for pair in pairs:
        first, second = _sides(pair)
        a, b = (gold(pair.prompt, text)["gold"] for text in (first, second))
        made.append(Pair(pair.id, pair.prompt, first, second, (a > b) + 0.5 * (a == b)))
    return LabelledSet(name, "gold", tuple(made), len(made)).check()


# ------------------------------------------------------------------ schemas


def _llmbar(items: Iterable[Item]) -> Iterable[Pair]:
    for number, item in enumerate(items):
        label = _label(item, "label", {"1": 1.0, "2": 0.0})
        chat = Chat.of(_text(item, "input"))
        a, b = _text(item, "output_1"), _text(item, "output_2")
        yield Pair(str(item.get("id", number)), chat, a, b, label)


def _dialogues(items: Iterable[Item]) -> Iterable[Pair]:
    """Read HH-RLHF's schema; the better answer stands first or second by a hash of its name."""
    for pair in plugins.benchmark(Training().reader).training(items):
        first, second = _sides(pair)
        yield Pair(pair.id, pair.prompt, first, second, float(first is pair.chosen))


def _hhh(items: Iterable[Item]) -> Iterable[Pair]:
    for number, item in enumerate(items):
        targets = item["targets"]
        choices, labels = list(targets["choices"]), list(targets["labels"])
        if len(choices) != 2 or sorted(labels) != [0, 1]:
            raise PlumblineError(f"{item.where}: targets must have two choices, labelled 1 and 0")
        chat = Chat.of(_text(item, "input"))
        first = _hash(str(number)) % 2
        a, b = choices[first], choices[1 - first]
        yield Pair(str(number), chat, str(a), str(b), float(labels[first]))


def _votes(items: Iterable[Item]) -> Iterable[Pair]:
    for number, item in enumerate(items):
        sides = []
        for name in ("conversation_a", "conversation_b"):
            turns = [Message(turn["role"], turn["content"]) for turn in item[name]]
            if len(turns) < 2 or turns[-1].role != "assistant":
                raise PlumblineError(f"{item.where}: {name} does not end with an answer")
            sides.append((Chat(tuple(turns[:-1])), turns[-1].text))
        (chat, a), (_, b) = sides
        winners = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (inconsistent)": 0.5}
        yield Pair(str(number), chat, a, b, _label(item, "winner", winners))


def _own(items: Iterable[Item]) -> Iterable[Pair]:
    for number, item in enumerate(items):
        label = _label(item, "label", {"A": 1.0, "B": 0.0, "tie": 0.5})
        chat = Chat.of(_text(item, "question"))
        a, b = _text(item, "answer_a"), _text(item, "answer_b")
        yield Pair(str(item.get("id", number)), chat, a, b, label)


SCHEMAS: Mapping[tuple[str, ...], Callable[[Iterable[Item]], Iterable[Pair]]] = {
    ("input", "output_1", "output_2", "label"): _llmbar,
    ("chosen", "rejected"): _dialogues,
    ("input", "targets"): _hhh,
    ("conversation_a", "conversation_b", "winner"): _votes,
    ("question", "answer_a", "answer_b", "label"): _own,
}


def _sides(pair: Preference) -> tuple[str, str]:
    """Put the better answer first or second as a hash of the pair's name has it."""
    sides = (pair.chosen, pair.rejected)
    return sides if _hash(pair.id) % 2 else sides[::-1]


def _distinct(pairs: Iterable[Pair]) -> Iterable[Pair]:
    """Give every pair a name of its own; a name given twice gets a number."""
    seen: dict[str, int] = {}
    for pair in pairs:
        count = seen[pair.id] = seen.get(pair.id, 0) + 1
        yield pair if count == 1 else replace(pair, id=f"{pair.id}-{count}")


def _text(item: Item, field: str) -> str:
    value: Json = item.get(field)
    if not isinstance(value, str):
        raise PlumblineError(f"{item.where}: {field} must be a text")
    return value


def _label(item: Item, field: str, known: Mapping[str, float]) -> float:
    value = str(item.get(field))
    if value not in known:
        raise PlumblineError(f"{item.where}: {field} is {value!r}; it must be {', '.join(known)}")
    return known[value]


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
