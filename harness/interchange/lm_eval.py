"""lm-evaluation-harness's files: samples and results, read into runs and written from one."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from harness.chat import Chat
from harness.conduct import store
from harness.conduct.files import Item
from harness.errors import PlumblineError
from harness.interchange.external import External, Key, source
from harness.interchange.reading import File, field
from harness.interchange.stored import Stored
from harness.records import Json, Prompt, Score

PREFIX = "samples_"
NEAR = 1e-6  # how far a results file may be from the mean of its samples
NO_NUMBER = "values of metrics that are no number (left out)"


def external(samples: Sequence[File], results: Sequence[File], model: str | None) -> list[External]:
    """Make a run of every file of samples, a column of every metric.

    results  the aggregated file of the same evaluation: it names the model, and its means must be
             those of the samples.
    model    the row's name, where no results file gives it.

    Raises PlumblineError for results without samples, repeated documents, or means that differ.
    """
    if not samples:
        raise PlumblineError(
            "lm-eval's results hold no items; run it with --log_samples and give its samples too"
        )
    if len(results) > 1:
        raise PlumblineError("one results file at a time: it speaks for one evaluation")
    told = results[0].items[0] if results else None
    name = model or _model(told) or "lm-eval model"
    return [_task(file, told, name, [*samples, *results]) for file in samples]


def samples(run: Stored) -> list[dict[str, Json]]:
    """Give ``samples_<task>_<date>.jsonl``: one line an answer, each scorer a metric."""
    rows: list[dict[str, Json]] = []
    for prompt in run.prompts:
        for turn in range(1 + len(prompt.turns)):
            key = (prompt.id, turn)
            if key not in run.answers:
                continue
            metrics = _metrics(run, key)
            asked = prompt.chat.to_dicts()
            target = (prompt.reference, *prompt.further)[turn : turn + 1] or (None,)
            words = json.dumps(asked, ensure_ascii=False)
            doc = {"id": prompt.id, "turn": turn, "chat": asked, "turns": list(prompt.turns)}
            rows.append(
                {
                    "doc_id": len(rows),
                    "doc": doc,
                    "target": target[0] or "",
                    "arguments": {"gen_args_0": {"arg_0": words, "arg_1": {}}},
                    "resps": [[run.answers[key]]],
                    "filtered_resps": [run.answers[key]],
                    "filter": "none",
                    "metrics": sorted(metrics),
                    "doc_hash": _hash(json.dumps(doc, ensure_ascii=False)),
                    "prompt_hash": _hash(words),
                    "target_hash": _hash(target[0] or ""),
                    **metrics,
                }
            )
    return rows


def results(run: Stored, task: str) -> dict[str, Json]:
    """Give ``results_<date>.json``: the mean and standard error of every scorer."""
    found: dict[str, Json] = {"alias": task}
    for column, scores in run.scores.items():
        values = [s.value for s in scores.values() if s.value is not None]
        mean, error = _mean(values)
        found |= {f"{column},none": mean, f"{column}_stderr,none": error}
    count = len(run.answers)
    return {
        "results": {task: found},
        "configs": {task: {"task": task, "output_type": "generate_until"}},
        "versions": {task: 0},
        "n-shot": {task: 0},
        "n-samples": {task: {"original": count, "effective": count}},
        "config": {"model": "plumbline", "model_args": run.label, "limit": run.spec.get("limit")},
        "git_hash": None,
        "date": (run.folder / "done").stat().st_mtime,
        "model_name": run.label,
    }


# ------------------------------------------------------------------ reading


def _task(file: File, told: Item | None, model: str, files: Sequence[File]) -> External:
    task = _task_name(file)
    prompts: dict[str, Prompt] = {}
    answers: dict[Key, str] = {}
    columns: dict[str, dict[Key, Score]] = {}
    notes: Counter[str] = Counter()
    filters = {str(item.get("filter", "none")) for item in file.items}
    seen: set[tuple[str, str]] = set()
    order: dict[str, None] = {}
    for item in file.items:
        doc, sieve = str(item["doc_id"]), str(item.get("filter", "none"))
        if (doc, sieve) in seen:
            raise PlumblineError(f"{item.where}: document {doc} occurs twice (filter {sieve})")
        seen.add((doc, sieve))
        prompts.setdefault(doc, _prompt(doc, item))
        answers.setdefault((doc, 0), _answer(item))
        for metric in field(item, "metrics", list):
            value = item.get(metric)
            if isinstance(value, bool) or not isinstance(value, int | float):
                notes[NO_NUMBER] += 1
                continue
            column = metric if len(filters) == 1 else f"{metric} ({sieve})"
            order[store.plain(column)] = None
            columns.setdefault(store.plain(column), {})[doc, 0] = Score(doc, 0, float(value))
    if told is not None:
        _check(task, told, columns, filters)
    return External(
        model,
        store.plain(f"lm_eval.{task}"),
        f"{task} (lm-eval)",
        tuple(prompts.values()),
        answers,
        {name: list(found.values()) for name, found in columns.items()},
        headlines=tuple(order),
        cluster="document",
        facts={"files": [source(f.path) for f in files if f is file or f.kind == "results"]},
        notes=+notes,
    )


def _task_name(file: File) -> str:
    """Read the task off ``samples_<task>_<date>.jsonl``; else the file's own name."""
    stem = file.path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")
    if not stem.startswith(PREFIX):
        return stem
    task, _, date = stem.removeprefix(PREFIX).rpartition("_")
    return task if task and date[:4].isdigit() else stem.removeprefix(PREFIX)


def _prompt(doc: str, item: Item) -> Prompt:
    target = item.get("target")
    return Prompt(
        doc,
        Chat.of(_context(item)),
        reference=None if target is None else str(target),
        cluster=doc,
    )


def _context(item: Item) -> str:
    """Give the text the model was shown: of the first request."""
    arguments = item.get("arguments")
    if isinstance(arguments, Mapping):
        first: Json = next(iter(arguments.values()), {})
        words = next(iter(first.values()), "") if isinstance(first, Mapping) else first
    elif isinstance(arguments, list) and arguments:
        words = arguments[0][0] if isinstance(arguments[0], list) else arguments[0]
    else:
        words = ""
    text = words if isinstance(words, str) else json.dumps(words, ensure_ascii=False)
    return text or json.dumps(item.get("doc"), ensure_ascii=False, sort_keys=True)


def _answer(item: Item) -> str:
    """Give what the model said: its one reply, or all of them as JSON."""
    said: Json = item.get("filtered_resps") or item.get("resps")
    while isinstance(said, list) and len(said) == 1:
        said = said[0]
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _model(told: Item | None) -> str:
    if told is None:
        return ""
    config = told.get("config")
    arguments = config.get("model_args") if isinstance(config, Mapping) else None
    return str(told.get("model_name") or arguments or "")


def _check(
    task: str, told: Item, columns: Mapping[str, Mapping[Key, Score]], filters: set[str]
) -> None:
    """Hold the means of the samples against the aggregated file."""
    theirs = field(told, "results", dict).get(task)
    if not isinstance(theirs, Mapping):
        raise PlumblineError(
            f"{told.where} has no results of {task}; it has those of {', '.join(told['results'])}"
        )
    for name, value in theirs.items():
        metric, _, sieve = name.partition(",")
        column = store.plain(metric if len(filters) == 1 else f"{metric} ({sieve})")
        if column not in columns or not isinstance(value, int | float):
            continue
        mean, _ = _mean([s.value for s in columns[column].values() if s.value is not None])
        if abs(mean - value) > NEAR:
            raise PlumblineError(
                f"{told.where}: {task} has {metric} = {value:g}, but its samples have {mean:g}; "
                "they are not of one evaluation, or the metric is no mean of its items "
                "(import the samples alone then)"
            )


# ------------------------------------------------------------------ writing


def _metrics(run: Stored, key: Key) -> dict[str, Json]:
    found = ((column, scores.get(key)) for column, scores in run.scores.items())
    return {column: score.value for column, score in found if score is not None}


def _mean(values: Sequence[float]) -> tuple[float, float]:
    n = len(values)
    if not n:
        return math.nan, math.nan
    mean = sum(values) / n
    spread = sum((v - mean) ** 2 for v in values) / (n - 1) if n > 1 else math.nan
    return mean, math.sqrt(spread / n) if n > 1 else math.nan


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
