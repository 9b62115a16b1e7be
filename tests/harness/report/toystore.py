"""A toy results folder: run folders as the runner leaves them, with made-up scores.

The numbers come from a formula, so the same call writes the same bytes; they measure
nothing.  Run as a script to write the stored toy store again:
``python tests/harness/report/toystore.py tests/goldens/store``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.conduct import store

HASH = "7c0d1e44b2"
ABOUT = "A toy store of made-up scores on a synthetic world: it shows the tables, and no method."
TITLES = {"hh_rlhf": "HH-RLHF", "harmful_qa": "HarmfulQA", "mt_bench": "MT-Bench"}


def run_spec(benchmark: str, method: str, **changes: Any) -> dict[str, Any]:
    """Give a spec as the runner writes it; ``changes`` replace fields."""
    names = [part.split("(")[0] for part in method.split("+")]
    spec = {
        "protocol": "toy",
        "protocol_hash": HASH,
        "world": "testbed",
        "about": ABOUT,
        "benchmark": benchmark,
        "title": {"hh_rlhf": "HH-RLHF", "harmful_qa": "HarmfulQA", "mt_bench": "MT-Bench"}.get(
            benchmark, benchmark
        ),
        "cluster": "task",
        "headlines": ["gold", "win_rate", "reward"],
        "method": method,
        "stack": [
            {"name": n, "settings": {} if n in ("unsteered", "another_seed") else {"n": 4}}
            for n in names
        ],
        "seed": 0,
        "fit_seeds": [0],
        "fits": [None] * len(names),
        "limit": None,
        "tuning": {"trials": 0, "objective": None},
        "marks": [],
        "sampling": {"temperature": 1.0},
        "model": {"path": "toy"},
        "rewards": {},
        "optimised": True,
        "kl": {"kind": "exact-per-step", "bound": None, "reason": ""},
        "touches": [],
    }
    return spec | changes


def write_run(
    results: Path,
    spec: Mapping[str, Any],
    scores: Mapping[str, Iterable[float | Mapping[str, Any] | None]],
    *,
    prompts: int = 12,
    turns: int = 1,
    clusters: int | None = None,
    tokens: Mapping[str, int] | None = None,
    seconds: float = 1.0,
    notes: Mapping[str, int] | None = None,
    pool: int = 0,
    done: bool = True,
) -> Path:
    """Write one run folder; every scorer gets one value per (prompt, turn), in order."""
    names = "+".join(part["name"] for part in spec["stack"])
    terms = f"{spec['protocol']}-{spec['protocol_hash']}"
    folder = results / "runs" / terms / spec["benchmark"] / names / store.digest(dict(spec))
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"{spec['benchmark']}-{i:03d}" for i in range(prompts)]
    keys = [(i, turn) for i in ids for turn in range(turns)]
    _write(folder / "spec.json", [spec], indent=1)
    _write(folder / "environment.json", [{"device": "cpu"}])
    _write(
        folder / "prompts.jsonl",
        [
            {
                "id": name,
                "chat": [{"role": "user", "content": f"question {name}"}],
                "turns": [],
                "reference": None,
                "cluster": f"task-{i % (clusters or prompts)}",
                "category": None,
                "tuned": False,
            }
            for i, name in enumerate(ids)
        ],
    )
    _write(
        folder / "responses.jsonl",
        [
            {"prompt": i, "turn": turn, "text": "…", "tokens": [1, 2], "stop": "eos"}
            for i, turn in keys
        ],
    )
    for scorer, values in scores.items():
        lines = []
        for (i, turn), value in zip(keys, values, strict=True):
            line = {"value": value} if not isinstance(value, Mapping) else dict(value)
            line.setdefault("outcome", "ok" if line["value"] is not None else "unparsed")
            lines.append({"prompt": i, "turn": turn} | line)
        _write(folder / f"scores.{scorer}.jsonl", lines)
    spent = {"policy": 100 * len(keys)} if tokens is None else dict(tokens)
    ledger = {"forwards": {}, "peak": 0}
    _write(
        folder / "ledger.jsonl",
        [
            ledger | {"phase": "decode", "tokens": spent, "seconds": {"decode": seconds}},
            ledger | {"phase": "score", "tokens": {"reward": 999}, "seconds": {"score": 9.0}},
        ],
    )
    if pool:
        _write(folder / "pool.jsonl", _candidates(keys, pool))
    _write(folder / "notes.json", [dict(notes or {})])
    if done:
        (folder / "done").touch()
    return folder


def write_skip(results: Path, benchmark: str, method: str, reason: str) -> None:
    """Say that a stack does not apply."""
    folder = results / "runs" / f"toy-{HASH}" / benchmark / method
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "skipped.json", [{"method": method, "reason": reason}])


def wave(count: int, shift: float, phase: int = 0) -> list[float]:
    """Give values that look uneven, from a formula: the same on every machine."""
    return [
        round(shift + math.sin(1.7 * i) + 0.4 * math.sin(2.9 * i + phase), 3) for i in range(count)
    ]


def golden_store(results: Path) -> None:
    """Write the small store whose tables are stored too: three methods, two benchmarks."""
    rows = {
        "unsteered": (0.0, 1, {}, {"policy": 1000}, 1.0),
        "best_of_n(n=4)": (
            0.5,
            2,
            {"kl": {"kind": "bound", "bound": 0.636, "reason": "it selects"}},
            {"policy": 4000, "reward": 4000},
            3.6,
        ),
        "recontrol": (
            0.3,
            3,
            {
                "fits": ["00aa11bb22"],
                "tuning": {"trials": 8, "objective": "gold"},
                "marks": ["transductive"],
                "kl": {"kind": "none", "bound": None, "reason": "no density was asked for"},
            },
            {"policy": 1000, "value": 1000},
            1.8,
        ),
    }
    for benchmark, prompts, turns in (("hh_rlhf", 10, 1), ("mt_bench", 8, 2)):
        for method, (shift, phase, changes, tokens, seconds) in rows.items():
            if (benchmark, method) == ("mt_bench", "recontrol"):
                reason = "needs preference pairs | none are granted"
                write_skip(results, benchmark, method, reason)
                continue
            count = prompts * turns
            gold = wave(count, shift, phase)
            traits = [{"value": g, "parts": {"helpful": g - 1, "polite": 1.0}} for g in gold]
            scores: dict[str, list[Any]] = {"gold": traits, "reward": wave(count, 2 * shift, 4)}
            if method != "unsteered":
                verdicts = [1.0, 0.5, 0.0, 1.0, None]
                scores["win_rate@toy_judge"] = [
                    {
                        "value": v,
                        "outcome": "tie" if v == 0.5 else "ok" if v is not None else "unparsed",
                    }
                    for v in (verdicts * count)[:count]
                ]
            if changes.get("kl") is None:
                scores["kl"] = [0.0] * count
            write_run(
                results,
                run_spec(benchmark, method, **changes),
                scores,
                prompts=prompts,
                turns=turns,
                tokens=tokens,
                seconds=seconds,
                notes={"prompts over 512 tokens": 3} if benchmark == "hh_rlhf" else {},
                pool=4 if method.startswith("best_of_n") else 0,
            )


def large_store(results: Path, prompts: int = 120) -> None:
    """Write a store of the size people have: seven rows, four benchmarks."""
    rng = np.random.default_rng(7)
    rows: dict[str, tuple[float, dict[str, Any], int, float]] = {
        "unsteered": (0.0, {}, 60, 1.0),
        "another_seed": (0.0, {"marks": ["control"]}, 60, 1.02),
        "best_of_n(n=8)": (0.7, {"kl": {"kind": "bound", "bound": 1.204}}, 530, 7.3),
        "oracle_best_of_n(n=8)": (
            1.5,
            {"kl": {"kind": "bound", "bound": 1.204}, "marks": ["ceiling"]},
            480,
            6.9,
        ),
        "prompting": (0.9, {}, 95, 1.2),
        "prompting+best_of_n(n=8)": (1.2, {"kl": {"kind": "bound", "bound": 1.204}}, 790, 8.4),
        "recontrol": (
            0.25,
            {"fits": ["00aa11bb22"], "tuning": {"trials": 16, "objective": "reward"}},
            64,
            3.1,
        ),
    }
    for benchmark, turns in (
        ("hh_rlhf", 1),
        ("harmful_qa", 1),
        ("alpaca_eval", 1),
        ("mt_bench", 2),
    ):
        titles = {"hh_rlhf": "HH-RLHF", "harmful_qa": "HarmfulQA", "alpaca_eval": "AlpacaEval"}
        count = prompts * turns
        base = rng.normal(size=count)
        for method, (shift, changes, tokens, seconds) in rows.items():
            if method == "recontrol" and benchmark == "mt_bench":
                write_skip(results, benchmark, method, "needs preference pairs; none are granted")
                continue
            gold = 0.4 * base + shift + rng.normal(size=count)
            scores: dict[str, list[Any]] = {
                "gold": [{"value": g, "parts": {"helpful": g / 2, "polite": g / 2}} for g in gold],
                "reward": list(2 * gold + rng.normal(size=count)),
                "diversity": list(rng.uniform(0.7, 1.0, size=count)),
                "coherence": list(rng.uniform(0.3, 0.9, size=count)),
                "length": [float(v) for v in rng.integers(20, 60, size=count)],
                "refusal": [float(v) for v in rng.integers(0, 2, size=count)],
            }
            if method != "unsteered":
                won = rng.choice([0.0, 0.5, 1.0], p=[0.3, 0.2, 0.5], size=count)
                scores["win_rate@testbed_pairwise"] = [
                    {
                        "value": None if i % 40 == 9 else float(v),
                        "outcome": "unparsed" if i % 40 == 9 else "tie" if v == 0.5 else "ok",
                    }
                    for i, v in enumerate(won)
                ]
            if "kl" not in changes:
                scores["kl"] = list(abs(shift) + rng.uniform(0, 0.2, size=count))
            write_run(
                results,
                run_spec(
                    benchmark, method, **({"title": titles.get(benchmark, "MT-Bench")} | changes)
                ),
                scores,
                prompts=prompts,
                turns=turns,
                clusters=prompts // 2,
                tokens={"policy": tokens * count},
                seconds=seconds,
                notes={"prompts over 512 tokens": 3},
                pool=8 if method.startswith("best_of_n") else 0,
            )


def _candidates(keys: Iterable[tuple[str, int]], pool: int) -> list[dict[str, Any]]:
    lines = []
    for number, (i, turn) in enumerate(keys):
        for k in range(pool):
            score = round(math.sin(3.1 * number + 1.3 * k) + math.sin(0.7 * k * k), 3)
            gold = round(0.6 * score + 0.5 * math.sin(2.3 * number + 5 * k), 3)
            line = {"prompt": i, "turn": turn, "candidate": k, "text": "…"}
            lines.append(line | {"score": score, "gold": gold})
    return lines


def _write(path: Path, lines: Iterable[Any], indent: int | None = None) -> None:
    text = "".join(
        json.dumps(line, indent=indent, sort_keys=True, ensure_ascii=False) + "\n" for line in lines
    )
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    golden_store(Path(sys.argv[1]))
