"""Many answers of the unsteered model to every prompt, scored: what a frontier is read off.

    results/frontiers/<protocol>-<hash>/<benchmark>/<key>/
        spec.json      all that could change an answer or a score
        answers.jsonl  a line for each prompt and block of answers: texts and scores
        listed.jsonl   on a world that lists every answer: their probabilities and scores
        asked.json     which prompts have how many answers; written last

A block is drawn as one search that chooses nothing, so that its prompt is read once; each of
its rows owns a stream of luck named by prompt, block and place.  More prompts or more answers
later are more lines; a line that was torn by a kill is drawn again, the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.conduct import plugins, store
from harness.conduct.code import code_digest
from harness.conduct.questions import Questions
from harness.conduct.setting import Setting
from harness.contracts.scorer import Answered, Scorer
from harness.engine.sampling import Sampling
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.progress import progress
from harness.records import Json, Prompt, Response

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.jobs import Job
    from harness.engine.rows import Rows
    from harness.engine.steering import Steering

BLOCK = 16  # answers drawn together; the fewest a frontier can do with
REWARDS = ("optimised_reward", "reward", "gold")  # what a frontier can be one of
SEED = 0


def draw(setting: Setting, questions: Questions, results: store.Store, samples: int) -> Path:
    """Draw and score whatever is missing of ``samples`` answers a prompt; give the folder.

    samples  rounded up to whole blocks.  Only first turns are asked: a later turn depends on
             what the method itself has answered.

    Raises PlumblineError for too few samples, and where no reward can be read.
    """
    enough(samples)
    scorers = _scorers(setting, questions)
    spec = _spec(setting, questions, scorers)
    folder = results.frontier(setting.terms, questions.name, spec)
    waiting = f"waiting for another process that draws the frontier of {questions.name}"
    with store.opened(folder, spec, waiting):
        store.mend(folder / "answers.jsonl")
        blocks = -(-samples // BLOCK)
        _sample(setting, questions, folder, scorers, blocks)
        _list(setting, questions, folder, scorers)
        asked = [[p.id, _digest(p), p.cluster or p.id] for p in questions.prompts]
        store.write_json(folder / "asked.json", {"samples": blocks * BLOCK, "prompts": asked})
    return folder


def enough(samples: int) -> None:
    """Refuse too few samples for a frontier."""
    if samples < BLOCK:
        raise PlumblineError(
            f"SAMPLES is {samples}; a frontier needs at least {BLOCK} base answers to a prompt, "
            "since ten must be effective"
        )


def _scorers(setting: Setting, questions: Questions) -> dict[str, Scorer]:
    own = questions.benchmark.scorers
    found = {name: plugins.scorer(name, setting.instruments) for name in REWARDS if name in own}
    reasons = {name: why for name, scorer in found.items() if (why := scorer.skip())}
    kept = {name: scorer for name, scorer in found.items() if name not in reasons}
    if not kept:
        why = "; ".join(reasons.values()) or f"its scorers are {', '.join(own)}"
        raise PlumblineError(
            f"{questions.name} has no reward under {setting.protocol.name}, so there is no "
            f"frontier to draw ({why})"
        )
    return kept


def _spec(setting: Setting, questions: Questions, scorers: Mapping[str, Scorer]) -> dict[str, Json]:
    sections = setting.protocol.sections
    return {
        "protocol": setting.protocol.name,
        "protocol_hash": setting.terms_hash,
        "world": sections.model.world,
        "about": sections.about.text,
        "benchmark": questions.name,
        "title": questions.benchmark.title,
        "cluster": questions.benchmark.cluster,
        "budgets": sorted({how.max_new_tokens for how in questions.sampling.values()}),
        "plain": questions.plain,
        "optimised": setting.optimised,
        "scorers": {n: code_digest(plugins.source_file(type(s))) for n, s in scorers.items()},
        "model": setting.model.facts(),
        "block": BLOCK,
        "seed": SEED,
    }


# ------------------------------------------------------------------ drawn


def _sample(
    setting: Setting,
    questions: Questions,
    folder: Path,
    scorers: Mapping[str, Scorer],
    blocks: int,
) -> None:
    from harness.engine.jobs import Job

    path = folder / "answers.jsonl"
    have = {(line["prompt"], line["asked"], line["block"]) for line in store.read_lines(path)}
    todo = [
        (prompt, block)
        for prompt in questions.prompts
        for block in range(blocks)
        if (prompt.id, _digest(prompt), block) not in have
    ]
    jobs = [
        Job(f"{p.id}/base-{block}", p.chat, Sampling(max_new_tokens=_budget(questions, p)))
        for p, block in todo
    ]
    what = f"base answers to {questions.name}"
    with progress(what, BLOCK * len(jobs)) as advance:
        for numbers, texts, ledger in _decoded(setting, jobs):
            with setting.metered(ledger), ledger.timed("score"):
                lines = [
                    {"prompt": prompt.id, "asked": _digest(prompt), "block": block, "texts": said}
                    | {"scores": _scored(scorers, prompt, said)}
                    for (prompt, block), said in zip([todo[n] for n in numbers], texts, strict=True)
                ]
            store.append(path, lines)
            store.append(folder / "ledger.jsonl", [ledger.to_json() | {"phase": "frontier"}])
            advance(BLOCK * len(lines), "")


def _decoded(
    setting: Setting, jobs: Sequence[Job]
) -> Iterator[tuple[list[int], list[list[str]], Ledger]]:
    """Give each finished batch: which jobs, their answers, and what it cost."""
    batches = iter(setting.decode(jobs, _everything(), SEED))
    while True:
        ledger, start = Ledger(), time.perf_counter()
        with setting.metered(ledger):
            batch = next(batches, None)
        if batch is None:
            return
        ledger.seconds["decode"] = time.perf_counter() - start
        yield [d.job for d in batch], [[c.text for c in d.pool] for d in batch], ledger


def _everything() -> Steering:
    """Search for nothing: keep all of a block's answers."""
    import torch

    from harness.engine.steering import Search, Steering

    def alike(rows: Rows) -> Tensor:
        return torch.zeros(len(rows.slot), device=rows.slot.device)

    return Steering(search=Search(BLOCK, alike))


def _budget(questions: Questions, prompt: Prompt) -> int:
    return questions.sampling[prompt.id].max_new_tokens


# ------------------------------------------------------------------ listed


def _list(
    setting: Setting, questions: Questions, folder: Path, scorers: Mapping[str, Scorer]
) -> None:
    """Store every answer's probability and scores, where the world can list them all."""
    if setting.world is None:
        return
    path = folder / "listed.jsonl"
    store.mend(path)
    have = {(line["prompt"], line["asked"]) for line in store.read_lines(path)}
    todo = [p for p in questions.prompts if (p.id, _digest(p)) not in have]
    budgets = [_budget(questions, p) for p in todo]
    with progress(f"every answer to {questions.name}", len(todo)) as advance:
        found = setting.world.listed(setting.model, todo, budgets) if todo else None
        for prompt, law in zip(todo, found or (), strict=False):
            ledger = Ledger()
            with setting.metered(ledger), ledger.timed("score"):
                scores = _scored(scorers, prompt, list(law))
            line = {"prompt": prompt.id, "asked": _digest(prompt), "log_p": list(law.values())}
            store.append(path, [line | {"scores": scores}])
            store.append(folder / "ledger.jsonl", [ledger.to_json() | {"phase": "frontier"}])
            advance(1, "")


# ------------------------------------------------------------------ scored


def _scored(
    scorers: Mapping[str, Scorer], prompt: Prompt, texts: Sequence[str]
) -> dict[str, list[float | None]]:
    """Read each answer by every reward; None where one gave no number."""
    answered = [
        Answered(prompt, prompt.chat, Response(f"{prompt.id}#{i}", 0, text, (), "eos"))
        for i, text in enumerate(texts)
    ]
    found = {}
    for name, scorer in scorers.items():
        by_key = {score.key: score.value for score in scorer.score(answered, {})}
        found[name] = [by_key[item.key] for item in answered]
    return found


def _digest(prompt: Prompt) -> str:
    return store.digest(prompt.chat.to_dicts())
