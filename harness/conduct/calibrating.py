"""Hold a judge against labelled pairs, and write down how far it agrees.

The judge is asked as it is asked in a run: same template, same orders, same backend, same
kept replies.  What it says is summed up by ``report/calibration.py``; the file lies where
the tables look for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness.chat import Chat
from harness.conduct import labelled, plugins, store
from harness.conduct.judges import kept
from harness.conduct.labelled import LabelledSet, Pair
from harness.conduct.setting import Setting
from harness.conduct.sources import load_items
from harness.conduct.terms import Judging
from harness.contracts.backends import Arrived, ChatBackend, Reply
from harness.contracts.scorer import Answered, Instruments, Scorer
from harness.errors import PlumblineError, unknown
from harness.progress import progress
from harness.records import Json, Prompt, Response, Score
from harness.report.calibration import Agreement, Judged, agreement

CHUNK = 64  # pairs between two moves of the progress bar
LIMIT = 200  # pairs of a set, unless more are asked for
REPEATS = 50  # pairs asked once more


class Redrawn(ChatBackend):
    """A backend asked for another draw, so that no kept reply is taken for a new one."""

    def __init__(self, backend: ChatBackend) -> None:
        self.backend, self.name = backend, backend.name

    def ask(
        self,
        chats: Sequence[Chat],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        logprobs: int = 0,
        draw: int = 0,
        arrived: Arrived | None = None,
    ) -> Sequence[Reply]:
        """Ask the backend for the next draw."""
        return self.backend.ask(
            chats,
            max_tokens=max_tokens,
            temperature=temperature,
            logprobs=logprobs,
            draw=draw + 1,
            arrived=arrived,
        )


def label_sets(
    setting: Setting,
    files: Sequence[str],
    limit: int | None,
    say: Callable[[str], None] = print,
) -> list[LabelledSet]:
    """Find what to calibrate on: the files named, or those in the labels folder and the world's.

    Of a folder, files of no known schema are left out, and said.

    Raises PlumblineError, with the sets' sources, where there is nothing.
    """
    found = []
    for path in labelled.find(files):
        try:
            found.append(labelled.read(path))
        except labelled.UnknownSchema:
            if path in [Path(name).expanduser() for name in files]:
                raise
            say(f"{path}: left out, no labelled pairs in it")
    source = setting.protocol.sections.training.dev
    if not files and setting.gold is not None and source is not None:
        reader = plugins.benchmark(setting.protocol.sections.training.reader)
        items = load_items(source.mapping(), setting.folder)
        found.append(labelled.by_gold("dev pairs", reader.training(items), setting.gold))
    if not found:
        raise PlumblineError(
            f"no labelled pairs to hold the judge against: put label files into "
            f"{labelled.folder()}, or name them (SETS=). Sets that fit: {labelled.SOURCES}; "
            "none of them is shipped here"
        )
    return [one.first(limit).check() for one in found]


def judging_of(setting: Setting, judge: str) -> Judging:
    """Find who answers for a judge under a protocol."""
    judging = setting.protocol.sections.judging
    if judge not in judging:
        plugins.judge_file(judge)  # raises for a judge that does not exist at all
        raise unknown(
            f"judge under [judging] of protocol {setting.protocol.name}", judge, list(judging)
        )
    return judging[judge]


def calibrate(
    judge: str,
    setting: Setting,
    sets: Iterable[LabelledSet],
    results: Path,
    *,
    repeats: int = REPEATS,
    say: Callable[[str], None] = print,
) -> Path:
    """Ask the judge about every pair, and write ``calibration/<protocol>/<judge>.json``."""
    how = judging_of(setting, judge)
    backend = kept(setting, store.Store(results), judge, how)
    scorer = plugins.scorer(judge, Instruments(backends={judge: backend}))
    again = plugins.scorer(judge, Instruments(backends={judge: Redrawn(backend)}))
    name = judge if how.backend == "world" else f"{judge}@{store.plain(backend.name)}"
    told = []
    for one in sets:
        found = held(scorer, again, one, repeats=repeats)
        told.append({"name": one.name, "labels": one.labels, "whole": one.whole} | found.to_json())
        say(sentence(one, found))
    path = results / "calibration" / setting.protocol.name / f"{name}.json"
    about: dict[str, Json] = {
        "judge": name,
        "backend": backend.name,
        "protocol": setting.protocol.name,
        "protocol_file": setting.protocol.file_hash,
        "sets": told,
    }
    store.write_json(path, about)
    return path


def held(scorer: Scorer, again: Scorer, one: LabelledSet, *, repeats: int = REPEATS) -> Agreement:
    """Hold one judge against one set.

    again  the same judge, which answers anew.
    """
    judged: list[Judged] = []
    with progress(f"{one.name}: {len(one.pairs)} pairs", len(one.pairs)) as advance:
        for start in range(0, len(one.pairs), CHUNK):
            some = one.pairs[start : start + CHUNK]
            judged += observed(scorer, some)
            advance(len(some), "")
    repeated = one.pairs[:repeats]
    twice = zip(judged, observed(again, repeated), strict=False)
    return agreement(judged, [(a.verdict, b.verdict) for a, b in twice])


def observed(scorer: Scorer, pairs: Sequence[Pair]) -> list[Judged]:
    """Ask a judge of pairs, or have one of single answers grade both sides."""
    if not pairs:
        return []
    if scorer.against:
        theirs = {(pair.id, 0): pair.b for pair in pairs}
        scores = scorer.score([_answered(pair, pair.a) for pair in pairs], theirs)
        return [_pairwise(pair, score) for pair, score in zip(pairs, scores, strict=True)]
    first = scorer.score([_answered(pair, pair.a) for pair in pairs], {})
    second = scorer.score([_answered(pair, pair.b) for pair in pairs], {})
    return [_graded(pair, a, b) for pair, a, b in zip(pairs, first, second, strict=True)]


def sentence(one: LabelledSet, found: Agreement) -> str:
    """Say in a line what was found."""
    agrees = found.agreement
    parts = [
        f"{one.name}: {found.pairs} of {one.whole} pairs",
        f"agrees with {one.labels} on {_percent(agrees.value)}"
        + (f" [{100 * agrees.low:.1f}, {100 * agrees.high:.1f}]" if agrees.n else ""),
        f"where it decides {_percent(found.decided.value)}",
        "no kappa" if math.isnan(found.kappa) else f"kappa {found.kappa:.3f}",
        f"always saying one label: {_percent(found.base_rate)}",
    ]
    if found.flips.n:
        turned = f"{_percent(found.reversed.value)} to the other side"
        parts.append(f"flips {_percent(found.flips.value)} ({turned})")
    if found.longer.n:
        own = _percent(found.longer_by_label.value)
        parts.append(f"longer answer {_percent(found.longer.value)} (labels: {own})")
    if found.repeated.n:
        parts.append(f"same reading again {_percent(found.repeated.value)}")
    missing = ", ".join(f"{n} {outcome}" for outcome, n in found.no_verdict.items())
    return "; ".join([*parts, f"no verdict: {missing or 0}"])


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _answered(pair: Pair, text: str) -> Answered:
    prompt = Prompt(pair.id, pair.chat)
    return Answered(prompt, pair.chat, Response(pair.id, 0, text, (), "eos"))


def _pairwise(pair: Pair, score: Score) -> Judged:
    orders: tuple[float | None, ...]
    orders = tuple(_side(v) for name, v in score.parts.items() if name.startswith("order_"))
    if score.value is None:
        orders = (None,)
    return Judged(pair.label, orders or (_side(score.value),), score.outcome, _longer(pair))


def _graded(pair: Pair, a: Score, b: Score) -> Judged:
    outcome = next((s.outcome for s in (a, b) if s.value is None), "ok")
    orders: tuple[float | None, ...] = (None,)
    if a.value is not None and b.value is not None:
        orders = (_side(0.5 + (a.value - b.value)),)
    return Judged(pair.label, orders, outcome, _longer(pair))


def _side(value: float | None) -> float | None:
    """Turn a verdict between 0 and 1 into who it falls to."""
    return None if value is None else (value > 0.5) + 0.5 * (value == 0.5)


def _longer(pair: Pair) -> float:
    a, b = len(pair.a), len(pair.b)
    return (a > b) + 0.5 * (a == b)
