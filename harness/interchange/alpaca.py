"""AlpacaEval's files: model outputs and annotations, read into a run and written from one."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from harness.conduct import plugins, store
from harness.errors import PlumblineError
from harness.interchange.external import External, Key, source
from harness.interchange.reading import File, by_key, field, named, only
from harness.interchange.stored import Stored, judge_name
from harness.judging import alpaca_eval
from harness.judging.preferences import shares
from harness.records import Json, Prompt, Score

BENCHMARK = "alpaca_eval"
UNJUDGED = "answers that the annotations do not judge"


def external(
    outputs: Sequence[File],
    annotations: Sequence[File],
    reference: File | None,
    asked: Sequence[Prompt] | None,
) -> External:
    """Put a model's outputs and the verdicts on them together by instruction.

    reference  the baseline's outputs, where annotations do not hold them.
    asked      the questions of a protocol, where the run goes beside its rows.

    Raises PlumblineError for instructions that do not match or occur twice, for annotations of
    two models, or where there are no answers.
    """
    if len(outputs) > 1:
        raise PlumblineError("one file of model outputs at a time; the reference's is --reference")
    verdicts = [_by_instruction(file) for file in annotations]
    texts = {i: field(item, "output", str) for i, item in _all(outputs).items()}
    for file, found in zip(annotations, verdicts, strict=True):
        told = _told(found, "output_2")
        if not outputs and len(told) < len(found):
            raise PlumblineError(
                f"{file.name} holds no answers (output_2); give the model's outputs beside it"
            )
        texts = texts or told
        strange = [i for i in found if i not in texts]
        if strange:
            raise PlumblineError(
                f"{file.name} judges {named(strange, 'instructions')} that are not among the "
                f"model's {len(texts)} outputs"
            )
    theirs = _all([reference]) if reference else {}
    base = {i: field(item, "output", str) for i, item in theirs.items()}
    for found in verdicts:
        base = base or _told(found, "output_1")
    prompts, ids = _prompts(texts, base, asked, outputs or annotations)
    scores, notes = {}, Counter[str]()
    for file, found in zip(annotations, verdicts, strict=True):
        column = column_of(only(_texts(found, "annotator"), "annotator", file.name))
        scores[column] = _scores(found, ids)
        notes[UNJUDGED] += len(texts) - len(found)
    files = [*outputs, *annotations, *([reference] if reference else [])]
    return External(
        _model(outputs, annotations),
        BENCHMARK,
        "AlpacaEval",
        prompts,
        {(ids[i], 0): text for i, text in texts.items()},
        scores,
        facts={
            "files": [source(file.path) for file in files],
            "baseline": sorted({b for found in verdicts for b in _texts(found, "generator_1")}),
        },
        notes=+notes,
    )


def model_outputs(run: Stored, generator: str) -> list[dict[str, Json]]:
    """Give ``model_outputs.json``: the answers in the order of the questions."""
    return [
        {
            "dataset": prompt.category or "",
            "instruction": prompt.chat.last_user,
            "output": run.answers[prompt.id, 0],
            "generator": generator,
            "datasplit": "eval",
        }
        for prompt in run.prompts
        if (prompt.id, 0) in run.answers
    ]


def annotation_rows(
    run: Stored, column: str, generator: str, theirs: Mapping[Key, str], opponent: str
) -> list[dict[str, Json]]:
    """Give ``annotations.json`` of one judge: 1 the opponent won, 2 the run, null no verdict.

    Beside upstream's fields, ``id`` and ``turn`` say which answer it is.
    """
    scores = run.scores[column]
    rows = []
    for prompt in run.prompts:
        for turn, question in enumerate((prompt.chat.last_user, *prompt.turns)):
            key = (prompt.id, turn)
            score = scores.get(key)
            if score is None:
                continue
            rows.append(
                {
                    "instruction": question,
                    "output_1": theirs.get(key, ""),
                    "generator_1": opponent,
                    "output_2": run.answers.get(key, ""),
                    "generator_2": generator,
                    "dataset": prompt.category or "",
                    "annotator": judge_name(column),
                    "preference": None if score.value is None else 1.0 + score.value,
                    "raw_completion": score.text,
                    "id": prompt.id,
                    "turn": turn,
                }
            )
    return rows


def column_of(annotator: str) -> str:
    """Name the judge's column; one of the package's evaluators has its model with it."""
    try:
        model = store.plain(alpaca_eval.evaluator(annotator).model)
    except PlumblineError:
        return f"win_rate@{store.plain(annotator)}"
    return f"win_rate@{annotator}@{model}"


def score_of(key: Key, share: float, item: Mapping[str, Json]) -> Score:
    """Make a score of the model's share of an item; NaN is no verdict."""
    words = item.get("raw_completion") or ""
    text = words if isinstance(words, str) else json.dumps(words, ensure_ascii=False)
    if math.isnan(share):
        return Score(*key, None, "unparsed", text=text)
    return Score(*key, float(share), "tie" if share == 0.5 else "ok", text=text)


def _all(files: Sequence[File]) -> dict[str, Mapping[str, Json]]:
    return {i: item for file in files for i, item in _by_instruction(file).items()}


def _by_instruction(file: File) -> dict[str, Mapping[str, Json]]:
    found = by_key(file.items, lambda i: field(i, "instruction", str), "instructions", file.name)
    return dict(found)


def _texts(rows: Mapping[str, Mapping[str, Json]], name: str) -> list[str]:
    return [str(item[name]) for item in rows.values() if item.get(name)]


def _told(rows: Mapping[str, Mapping[str, Json]], name: str) -> dict[str, str]:
    return {i: str(item[name]) for i, item in rows.items() if isinstance(item.get(name), str)}


def _model(outputs: Sequence[File], annotations: Sequence[File]) -> str:
    """Name the model: by its own outputs, else by who the annotations say came second."""
    for file, name in [(f, "generator") for f in outputs] + [
        (f, "generator_2") for f in annotations
    ]:
        said = {str(item[name]) for item in file.items if item.get(name)}
        if said:
            return only(said, "generator", file.name)
    return (outputs or annotations)[0].path.name.split(".")[0]


def _scores(rows: Mapping[str, Mapping[str, Json]], ids: Mapping[str, str]) -> list[Score]:
    values = shares([item.get("preference") for item in rows.values()])
    return [
        score_of((ids[instruction], 0), float(share), item)
        for (instruction, item), share in zip(rows.items(), values, strict=True)
    ]


def _prompts(
    texts: Mapping[str, str],
    base: Mapping[str, str],
    asked: Sequence[Prompt] | None,
    files: Sequence[File],
) -> tuple[tuple[Prompt, ...], dict[str, str]]:
    """Give the questions and the id of each instruction: the protocol's, or the file's own."""
    if asked is None:
        reader = plugins.benchmark(BENCHMARK)
        every = (item for file in files for item in file.items)
        datasets = {str(item.get("instruction")): item.get("dataset") for item in every}
        items = [
            {"instruction": i}
            | ({"output": base[i]} if i in base else {})
            | ({"dataset": str(datasets[i])} if datasets.get(i) else {})
            for i in texts
        ]
        asked = reader.read(items).prompts
    ids = {prompt.chat.last_user: prompt.id for prompt in asked}
    strange = [i for i in texts if i not in ids]
    if strange:
        raise PlumblineError(
            f"{files[0].name}: {named(strange, 'instructions')} are none of the questions asked"
        )
    return tuple(asked), ids
