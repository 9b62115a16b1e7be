"""Answers from elsewhere as a run of their own: the same files, the same tables."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import __version__
from harness.conduct import plugins, store
from harness.conduct.protocol import load
from harness.conduct.rejudging import EXTERNAL as ALONE
from harness.conduct.rejudging import prompts_of
from harness.errors import PlumblineError
from harness.interchange.reading import named
from harness.records import Json, Prompt, Response, Score

ABOUT = "Answers imported from files of other tools: nothing here says how they were made."
UNANSWERED = "questions without an answer in the imported file"
Key = tuple[str, int]


@dataclass(frozen=True)
class External:
    """A model's answers, and what was said of them.

    benchmark  the folder its run goes into; title, cluster and headlines as tables print them.
    answers    (prompt id, turn) -> text.
    scores     column -> scores.
    facts      where it is from, as it is stored.
    """

    model: str
    benchmark: str
    title: str
    prompts: tuple[Prompt, ...]
    answers: Mapping[Key, str]
    scores: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    headlines: tuple[str, ...] = ("win_rate",)
    cluster: str = "prompt"
    facts: Mapping[str, Json] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def unanswered(self) -> list[Key]:
        """Name every (prompt, turn) that has no answer."""
        asked = ((p.id, turn) for p in self.prompts for turn in range(1 + len(p.turns)))
        return [key for key in asked if key not in self.answers]


@dataclass(frozen=True)
class Terms:
    """Under which terms imported runs stand.

    prompts  benchmark -> its questions, where a protocol's own runs asked some.
    """

    protocol: str
    hash: str
    about: str
    prompts: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name the folder of everything under these terms."""
        return f"{self.protocol}-{self.hash}"


def terms(results: store.Store, protocol: str | None) -> Terms:
    """Find the terms: a protocol that has runs, or, without one, those of imported runs alone.

    Raises PlumblineError where the protocol has no finished run to take its questions from.
    """
    if protocol is None:
        return Terms(ALONE, store.digest({"protocol": ALONE}), ABOUT)
    from harness.report.terms import choose_terms

    known = load(plugins.protocol_file(protocol))
    chosen = choose_terms(results.root, known.name)
    asked = {}
    for folder in chosen.benchmarks:
        runs = [p.parent for p in sorted(folder.glob("*/*/spec.json")) if store.is_done(p.parent)]
        whole = [run for run in runs if store.read_json(run / "spec.json").get("limit") is None]
        if whole or runs:
            asked[folder.name] = tuple(prompts_of((whole or runs)[0]))
    return Terms(known.name, chosen.hash, known.sections.about.text, asked)


def write(results: store.Store, found: External, under: Terms, *, partial: bool = False) -> Path:
    """Write an imported run; the same files again give the same folder.

    partial  accept questions without an answer, and count them.

    Raises PlumblineError for questions without an answer, which it names, and for the name of a
    row that was made here.
    """
    unanswered = found.unanswered
    if unanswered and not partial:
        turns = [p if t == 0 else f"{p} turn {t + 1}" for p, t in unanswered]
        raise PlumblineError(
            f"{found.model} does not answer {named(turns, 'questions')} of {found.benchmark}; "
            "give a file with all of them, or --partial to import it as it is"
        )
    _check_name(results, found, under)
    notes = Counter(found.notes) + Counter({UNANSWERED: len(unanswered)})
    spec = specification(found, under)
    folder = results.run(
        under.folder, found.benchmark, f"external-{store.plain(found.model)}", spec
    )
    with store.opened(folder, spec):
        lines = [store.canonical(store.prompt_line(p)) + "\n" for p in found.prompts]
        store.write_text(folder / "prompts.jsonl", "".join(lines))
        made = [Response(*key, text, (), "eos") for key, text in sorted(found.answers.items())]
        _write_lines(folder / "responses.jsonl", [r.to_json() for r in made])
        for column, scores in found.scores.items():
            ordered = sorted(scores, key=lambda s: s.key)
            _write_lines(folder / f"scores.{column}.jsonl", [s.to_json() for s in ordered])
        store.write_text(folder / "ledger.jsonl", "")
        store.write_json(folder / "notes.json", dict(notes))
        store.write_json(folder / "environment.json", {"plumbline": __version__, "device": ""})
        store.mark_done(folder)
    return folder


def specification(found: External, under: Terms) -> dict[str, Json]:
    """Give ``spec.json`` as a run of ours has it; what is not known is left empty."""
    asked = [[p.id, p.chat.to_dicts(), list(p.turns)] for p in found.prompts]
    return {
        "protocol": under.protocol,
        "protocol_hash": under.hash,
        "world": None,
        "about": under.about,
        "benchmark": found.benchmark,
        "title": found.title,
        "cluster": found.cluster,
        "headlines": list(found.headlines),
        "method": found.model,
        "stack": [{"name": ALONE, "settings": {}}],
        "seed": 0,
        "fit_seeds": [],
        "fits": [],
        "limit": None,
        "items": store.digest(asked),
        "tuning": {"trials": 0, "objective": None},
        "marks": [ALONE],
        "sampling": {"answers": [], "search": None},
        "model": {"name": found.model, "unpinned": []},
        "rewards": {},
        "optimised": False,
        "encoder": "",
        "kl": {"kind": "none", "bound": None, "reason": "the answers are from elsewhere"},
        "touches": [],
        "external": dict(found.facts),
    }


def renamed(found: External, name: str) -> External:
    """Give the row another name; ``unsteered`` makes it what other rows are compared with."""
    return replace(found, model=name)


def source(path: Path) -> dict[str, Json]:
    """Say which file it was: its name and what was in it."""
    return {"file": path.name, "blake2b": hashlib.blake2b(path.read_bytes()).hexdigest()[:20]}


def _check_name(results: store.Store, found: External, under: Terms) -> None:
    """Refuse the name of one of our own rows: two rows of one name would hide one another."""
    cell = results.cell(under.folder, found.benchmark, ALONE).parent
    for path in sorted(cell.glob("*/*/spec.json")):
        spec = store.read_json(path)
        if spec.get("method") == found.model and "external" not in spec:
            raise PlumblineError(
                f"{found.benchmark} has a row called {found.model} that was made here; "
                "--name gives the imported one another"
            )


def _write_lines(path: Path, lines: Sequence[Mapping[str, Json]]) -> None:
    store.write_text(path, "".join(store.canonical(line) + "\n" for line in lines))
