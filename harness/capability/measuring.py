"""One row on one task: ask lm-eval, and keep what every single item came to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.evaluator import evaluate

from harness.capability.language_model import SteeredLM
from harness.capability.tasks import Asked, quiet
from harness.conduct import store
from harness.errors import PlumblineError
from harness.records import Json

FEWSHOT_SEED = 1234  # lm-eval's own
BITS = math.log(2)
WHOLE = "measures of a whole set, which no item has (in lm_eval.json only)"


class NoMean(PlumblineError):
    """A measure is infinite for some item, so it has no mean."""


@dataclass(frozen=True)
class Ask:
    """How a task is put.

    limit    only its first items; None for all.
    fewshot  examples before each; None for as many as the task's file says.
    chat     contexts are rendered in the model's chat template.
    """

    asked: Asked
    limit: int | None = None
    fewshot: int | None = None
    chat: bool = False

    def prepare(self) -> None:
        """Set the tasks' examples as lm-eval's command line does; the same for every row."""
        for task in self.asked.tasks.values():
            own = task.get_config("num_fewshot")
            if self.fewshot is not None and own != 0:
                task.set_config(key="num_fewshot", value=self.fewshot)
            elif own is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)

    def identity(self) -> dict[str, Json]:
        """Say what is asked, so that an edited task is another task."""
        found: dict[str, Json] = {}
        for name, task in sorted(self.asked.tasks.items()):
            docs = [doc for _, doc in task.doc_iterator(limit=self.limit)]
            found[name] = store.digest(_plain([task.dump_config(), docs]))
        return found


@dataclass(frozen=True)
class Measured:
    """What came of it.

    items     one record per task, item and filter: its measures, its answer.
    measures  "measure,filter" in the order the task declares them, the headline first.
    higher    measure -> whether more is better.
    results   lm-eval's own figures for the whole set.
    notes     reason -> count of what was left out.
    """

    items: list[dict[str, Json]]
    measures: list[str]
    higher: dict[str, bool]
    results: dict[str, Json]
    notes: Counter[str]

    def write(self, folder: Path) -> None:
        """Keep it, each item on a line of its own."""
        lines = "".join(store.canonical(item) + "\n" for item in self.items)
        store.write_text(folder / "items.jsonl", lines)
        store.write_json(folder / "lm_eval.json", self.results)
        measures = {"measures": self.measures, "higher": self.higher}
        store.write_json(folder / "measures.json", measures)
        store.write_json(folder / "notes.json", dict(self.notes))


def measure(lm: SteeredLM, ask: Ask) -> Measured:
    """Evaluate; raises PlumblineError for a task that reads more than text.

    Raises NoMean where the row finds a text impossible whose likelihood is averaged.
    """
    ask.prepare()
    try:
        with quiet(), np.errstate(invalid="ignore"):  # softmax of minus infinities
            found = evaluate(
                lm=lm,
                task_dict=dict(ask.asked.loaded),
                limit=ask.limit,
                bootstrap_iters=0,
                apply_chat_template=ask.chat,
                fewshot_as_multiturn=True,
            )
    except ValueError as error:
        if "multimodal" in str(error) or "unsafe" in str(error):
            raise PlumblineError(f"task {ask.asked.name}: {error}") from error
        raise
    notes = Counter(lm.notes)
    items, measures = [], dict[str, int]()
    samples = found["samples"]
    for task in sorted(samples):
        for sample in samples[task]:
            values = {}
            for name in sample["metrics"]:
                value = per_item(name, sample[name])
                if value is None:
                    notes[WHOLE] += 1
                else:
                    values[name] = value
                    key = f"{name},{sample['filter']}"
                    measures[key] = measures.get(key, 0) + 1
            items.append(_record(task, sample, values))
    infinite = sum(any(map(math.isinf, item["values"].values())) for item in items)
    if infinite:
        raise NoMean(
            f"{infinite} of {len(items)} texts are impossible under this row (log-likelihood "
            "minus infinity), so no mean exists"
        )
    shared = _shared(measures, items)
    if not shared:
        raise PlumblineError(
            f"task {ask.asked.name}: none of its measures has a value for each item, so rows "
            "cannot be compared item by item"
        )
    higher = {m: bool(h) for one in found["higher_is_better"].values() for m, h in one.items()}
    return Measured(items, shared, higher, _plain(found["results"]), notes)


def per_item(name: str, value: Any) -> float | None:
    """Give an item's own value of a measure; None where only the whole set has one.

    A rolling likelihood comes as (log-likelihood, units): bits per byte are the item's own.
    Of a perplexity, which comes as a log-likelihood, it is the logarithm.
    """
    if name == "perplexity":
        return -float(value)
    if name == "bits_per_byte" and isinstance(value, tuple):
        total, units = value
        return -float(total) / units / BITS if units else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def _shared(measures: Mapping[str, int], items: Iterable[Mapping[str, Json]]) -> list[str]:
    """Keep the measures that all tasks of a group have."""
    tasks: dict[str, set[str]] = {}
    for item in items:
        keys = {f"{name},{item['filter']}" for name in item["values"]}
        tasks.setdefault(item["task"], set()).update(keys)
    return [name for name in measures if all(name in keys for keys in tasks.values())]


def _record(task: str, sample: Mapping[str, Any], values: dict[str, float]) -> dict[str, Json]:
    return {
        "task": task,
        "doc": sample["doc_id"],
        "filter": sample["filter"],
        "values": values,
        "answers": _plain(sample["resps"]),
        "target": _plain(sample["target"]),
        "asked": [sample[f"{what}_hash"] for what in ("doc", "prompt", "target")],
    }


def _plain(value: Any) -> Json:
    """Turn whatever a task holds into JSON."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "item"):  # numpy's numbers
        return _plain(value.item())
    return getattr(value, "__qualname__", None) or type(value).__name__
