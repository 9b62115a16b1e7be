"""FastChat's files: questions, answers and judgments, read into runs and written from one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from harness.conduct import plugins, store
from harness.conduct.files import Item
from harness.errors import PlumblineError
from harness.interchange.external import External, Key, source
from harness.interchange.reading import File, by_key, field, named, only
from harness.interchange.stored import Stored, judge_name
from harness.judging import fastchat
from harness.records import Json, Outcome, Prompt, Score

BENCHMARK = "mt_bench"
SINGLE, PAIR = "mt_bench_single", "mt_bench_pairwise"
ERROR = "$ERROR$"  # what FastChat writes where its judge gave no reply
BREAK = "\n---\n"  # between the words on two orders
UNJUDGED = "answers that the judgments do not judge"


def external(
    answers: Sequence[File],
    judgments: Sequence[File],
    questions: Sequence[File],
    reference: File | None,
    asked: Sequence[Prompt] | None,
) -> list[External]:
    """Put each model's answers and the judgments on them together, a run a model.

    asked  the questions of a protocol; else they come from ``questions``.

    Raises PlumblineError for answers to no question, repeated ones, judgments of a model or a
    question that has no answer, and where the questions are not known.
    """
    if not answers:
        raise PlumblineError(
            "judgments hold no answers; give each model's model_answer file beside them"
        )
    prompts = tuple(asked if asked is not None else _prompts(questions, reference))
    known = {p.id for p in prompts}
    texts: dict[str, dict[Key, str]] = {}
    files: dict[str, list[File]] = {}
    for file in answers:
        told = (str(item.get("model_id") or file.path.stem) for item in file.items)
        model = only(told, "model", file.name)
        if model in texts:
            raise PlumblineError(f"{file.name}: a second file of answers by {model}")
        texts[model], files[model] = _answers(file, known), [file]
    scores: dict[str, dict[str, list[Score]]] = {model: {} for model in texts}
    for file in judgments:
        for model, column, score in _judged(file, texts):
            scores[model].setdefault(column, []).append(score)
            if file not in files[model]:
                files[model].append(file)
    others = {m: sorted(set(texts) - {m}) for m in texts}
    return [
        External(
            model,
            BENCHMARK,
            "MT-Bench",
            prompts,
            texts[model],
            scores[model],
            headlines=("grade", "win_rate"),
            cluster="question",
            facts={
                "files": [source(file.path) for file in files[model]],
                "baseline": others[model],
            },
            notes=_unjudged(texts[model], scores[model]),
        )
        for model in texts
    ]


def model_answer(run: Stored, model: str) -> list[dict[str, Json]]:
    """Give ``model_answer/<model>.jsonl``."""
    stamp = _stamp(run)
    return [
        {
            "question_id": _number(prompt.id),
            "answer_id": hashlib.blake2b(
                "\x1f".join((model, prompt.id, *turns)).encode(), digest_size=11
            ).hexdigest(),
            "model_id": model,
            "choices": [{"index": 0, "turns": turns}],
            "tstamp": stamp,
        }
        for prompt in run.prompts
        if (turns := _turns(run, prompt))
    ]


def question_file(run: Stored) -> list[dict[str, Json]]:
    """Give ``question.jsonl``."""
    records = []
    for prompt in run.prompts:
        record: dict[str, Json] = {
            "question_id": _number(prompt.id),
            "category": prompt.category or "",
            "turns": [prompt.chat.last_user, *prompt.turns],
        }
        if prompt.reference is not None:
            record["reference"] = [prompt.reference, *prompt.further]
        records.append(record)
    return records


def single_judgments(run: Stored, column: str, model: str) -> list[dict[str, Json]]:
    """Give ``model_judgment/<judge>_single.jsonl``; -1 where there is no grade."""
    return [
        {
            "question_id": _number(prompt.id),
            "model": model,
            "judge": [by(column), fastchat.prompt_name("single", prompt.category or "", turn)],
            "user_prompt": "",
            "judgment": score.text or ("" if score.outcome != "failed" else ERROR),
            "score": -1 if score.value is None else score.value,
            "turn": turn + 1,
            "tstamp": _stamp(run),
        }
        for prompt, turn, score in _scored(run, column)
    ]


def pair_judgments(run: Stored, column: str, model: str, opponent: str) -> list[dict[str, Json]]:
    """Give ``model_judgment/<judge>_pair.jsonl``, the run being model 1."""
    rows = []
    for prompt, turn, score in _scored(run, column):
        words = [*score.text.split(BREAK), "", ""][:2]
        rows.append(
            {
                "question_id": _number(prompt.id),
                "model_1": model,
                "model_2": opponent,
                "g1_winner": _winner(score, 0),
                "g2_winner": _winner(score, 1),
                "judge": [by(column), fastchat.prompt_name("pair", prompt.category or "", turn)],
                "g1_user_prompt": "",
                "g1_judgment": words[0],
                "g2_user_prompt": "",
                "g2_judgment": words[1],
                "turn": turn + 1,
                "tstamp": _stamp(run),
            }
        )
    return rows


# ------------------------------------------------------------------ reading


def _prompts(questions: Sequence[File], reference: File | None) -> Sequence[Prompt]:
    if not questions:
        raise PlumblineError(
            "FastChat's answers name questions by number only; give question.jsonl beside them, "
            "or --protocol, whose questions they answer"
        )
    items = [item for file in questions for item in file.items]
    by_key(items, _question, "questions", questions[0].name)
    items += [Item(i, i.where, reference=True) for i in (reference.items if reference else ())]
    return plugins.benchmark(BENCHMARK).read(items).prompts


def _answers(file: File, known: set[str]) -> dict[Key, str]:
    found = by_key(file.items, _question, "questions", file.name)
    strange = [question for question in found if question not in known]
    if strange:
        raise PlumblineError(f"{file.name} answers {named(strange, 'questions')} nobody asked")
    texts: dict[Key, str] = {}
    for question, item in found.items():
        choices = field(item, "choices", list)
        turns = choices[0].get("turns") if choices and isinstance(choices[0], Mapping) else None
        if not isinstance(turns, list) or not all(isinstance(t, str) for t in turns):
            raise PlumblineError(f"{item.where}: field 'choices' holds no list of turns")
        texts |= {(question, turn): text for turn, text in enumerate(turns)}
    return texts


def _judged(file: File, texts: Mapping[str, Mapping[Key, str]]) -> Iterator[tuple[str, str, Score]]:
    """Give (model, column, score) of every judgment."""
    single = file.kind == "single judgments"
    names = ("model",) if single else ("model_1", "model_2")
    seen: set[tuple[str, ...]] = set()
    for item in file.items:
        models = [field(item, name, str) for name in names]
        key = (_question(item), field(item, "turn", int) - 1)
        once = (*models, *map(str, key), str(item.get("judge")))
        if once in seen:
            raise PlumblineError(f"{item.where}: question {key[0]}, turn {key[1] + 1} twice")
        seen.add(once)
        strange = [m for m in models if m not in texts]
        if strange:
            raise PlumblineError(
                f"{item.where} judges {strange[0]}, whose answers are not given; there are those "
                f"of {', '.join(sorted(texts))}"
            )
        for place, model in enumerate(models):
            if key not in texts[model]:
                raise PlumblineError(
                    f"{item.where} judges {model} on question {key[0]}, turn {key[1] + 1}, which "
                    "it does not answer"
                )
            score = _single(item, key) if single else _pair(item, key, place)
            yield model, f"{'grade' if single else 'win_rate'}@{_judge(item, single)}", score


def _single(item: Item, key: Key) -> Score:
    value, words = field(item, "score", float), str(item.get("judgment") or "")
    if value < 0:
        bad: Outcome = "failed" if not words or words == ERROR else "unparsed"
        return Score(*key, None, bad, text=words)
    return Score(*key, float(value), text=words)


def _pair(item: Item, key: Key, place: int) -> Score:
    ours = ("model_1", "model_2")[place]
    words = [str(item.get(f"g{game}_judgment") or "") for game in (1, 2)]
    text = BREAK.join(words)
    wins: list[float] = []
    for game in (1, 2):
        said = field(item, f"g{game}_winner", str)
        if said not in ("model_1", "model_2", "tie"):
            bad: Outcome = "failed" if ERROR in words or not all(words) else "unparsed"
            return Score(*key, None, bad, text=text)
        wins.append(0.5 if said == "tie" else float(said == ours))
    parts = {f"order_{i}": w for i, w in enumerate(wins)}
    parts["inconsistent"] = float(sorted(wins) == [0.0, 1.0])
    return Score(*key, sum(wins) / 2, "tie" if set(wins) == {0.5} else "ok", parts, text)


def _judge(item: Item, single: bool) -> str:
    judge = item.get("judge")
    name = judge[0] if isinstance(judge, list) and judge else judge
    return f"{SINGLE if single else PAIR}@{store.plain(str(name or 'unnamed'))}"


def _question(item: Mapping[str, Json]) -> str:
    value = item.get("question_id")
    if value is None or value == "":
        raise PlumblineError(f"{getattr(item, 'where', 'a record')}: no field 'question_id'")
    return str(value)


def _unjudged(texts: Mapping[Key, str], scores: Mapping[str, Sequence[Score]]) -> Counter[str]:
    judged = {s.key for found in scores.values() for s in found}
    return Counter({UNJUDGED: len(set(texts) - judged)} if scores else {})


# ------------------------------------------------------------------ writing


def _scored(run: Stored, column: str) -> Iterator[tuple[Prompt, int, Score]]:
    for prompt in run.prompts:
        for turn in range(1 + len(prompt.turns)):
            score = run.scores[column].get((prompt.id, turn))
            if score is not None:
                yield prompt, turn, score


def _winner(score: Score, order: int) -> str:
    if score.value is None:
        return "error"
    share = score.parts.get(f"order_{order}", score.value)
    return "tie" if share == 0.5 else "model_1" if share > 0.5 else "model_2"


def _turns(run: Stored, prompt: Prompt) -> list[str]:
    found = (run.answers.get((prompt.id, turn)) for turn in range(1 + len(prompt.turns)))
    return [text for text in found if text is not None]


def by(column: str) -> str:
    """Name who judged: the model where the column says it, else the judge."""
    return column.rpartition("@")[2] if column.count("@") > 1 else judge_name(column)


def _number(question: str) -> int | str:
    return int(question) if question.isdigit() else question


def _stamp(run: Stored) -> float:
    return (run.folder / "done").stat().st_mtime
