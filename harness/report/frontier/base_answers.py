"""The stored base answers of one benchmark, read into frontiers: one for each reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.conduct import store
from harness.errors import PlumblineError
from harness.records import Json
from harness.report.frontier.estimator import Frontier
from harness.report.statistics import Array

FIRST = ("optimised_reward", "reward", "gold")  # the order in which rewards are shown


@dataclass(frozen=True)
class Base:
    """What the base model answers, and what each reward says of it.

    prompts   ids, in the order of every array here.
    asked     digest of each prompt's conversation; clusters: the cluster of each.
    samples   answers a prompt.
    drawn     scorer -> [prompts, samples]; NaN where it gave no number.
    log_p     [prompts, answers] of every answer there is, where the world lists them, and
    listed    scorer -> [prompts, answers] of the same; -inf and NaN beyond a prompt's own.
    """

    spec: Mapping[str, Json]
    prompts: tuple[str, ...]
    asked: tuple[str, ...]
    clusters: tuple[str, ...]
    samples: int
    drawn: Mapping[str, Array]
    log_p: Array | None
    listed: Mapping[str, Array]

    @property
    def scorers(self) -> list[str]:
        """Name the rewards, the one that methods may have been granted first."""
        return list(self.drawn)

    @cached_property
    def estimated(self) -> dict[str, Frontier]:
        """Give the frontier of each reward from the samples."""
        return {name: self._frontier(name, self.drawn, None) for name in self.drawn}

    @cached_property
    def exact(self) -> dict[str, Frontier]:
        """Give the frontier of each reward from every answer; empty where they are not listed."""
        if self.log_p is None:
            return {}
        return {name: self._frontier(name, self.listed, self.log_p) for name in self.listed}

    def best(self, scorer: str) -> Frontier:
        """Give the best there is to know: the exact frontier, or else the estimated one."""
        return self.exact.get(scorer) or self.estimated[scorer]

    def _frontier(self, name: str, values: Mapping[str, Array], log_p: Array | None) -> Frontier:
        other = values.get("gold") if name != "gold" else None
        try:
            return Frontier(values[name], other, log_p)
        except ValueError:
            raise PlumblineError(
                f"{self.spec['benchmark']}: {name} gave no number for any base answer to some "
                "prompt, so there is no frontier"
            ) from None

    def missing(self, scorer: str) -> int:
        """Count the samples to which a reward gave no number."""
        return int(np.isnan(self.drawn[scorer]).sum())


def read_base(results: Path, terms: str, benchmark: str) -> Base | None:
    """Read the newest finished set of base answers; None where there is none.

    terms  ``<protocol>-<hash>``.

    Raises PlumblineError where what was asked for is not all there.
    """
    home = results / "frontiers" / terms / benchmark
    finished = sorted(home.glob("*/asked.json"), key=lambda p: (p.stat().st_mtime, p))
    return _read(finished[-1].parent) if finished else None


def _read(folder: Path) -> Base:
    order = store.read_json(folder / "asked.json")
    samples = int(order["samples"])
    prompts, asked, clusters = (tuple(column) for column in zip(*order["prompts"], strict=True))
    places = {(p, a): i for i, (p, a) in enumerate(zip(prompts, asked, strict=True))}
    drawn: dict[str, Array] = {}
    seen = np.zeros((len(prompts), samples), dtype=bool)
    for line in store.read_lines(folder / "answers.jsonl"):
        place = places.get((line["prompt"], line["asked"]))
        start = int(line["block"]) * len(line["texts"])
        if place is None or start >= samples:
            continue  # of prompts, or further answers, of an earlier call
        columns = slice(start, start + len(line["texts"]))
        for name, values in line["scores"].items():
            table = drawn.setdefault(name, np.full(seen.shape, np.nan))
            table[place, columns] = values  # None becomes NaN
        seen[place, columns] = True
    if not seen.all():
        raise PlumblineError(
            f"{folder / 'answers.jsonl'} lacks {int((~seen).sum())} of {seen.size} base answers; "
            "the same `make frontier` draws them again"
        )
    log_p, listed = _listed(folder, places)
    spec = store.read_json(folder / "spec.json")
    drawn = {name: drawn[name] for name in sorted(drawn, key=FIRST.index)}
    return Base(spec, prompts, asked, clusters, samples, drawn, log_p, listed)


def _listed(
    folder: Path, places: Mapping[tuple[str, str], int]
) -> tuple[Array | None, dict[str, Array]]:
    """Read every answer's probability and scores; nothing unless all prompts have them."""
    lines = {
        place: line
        for line in store.read_lines(folder / "listed.jsonl")
        if (place := places.get((line["prompt"], line["asked"]))) is not None
    }
    if len(lines) < len(places):
        return None, {}
    shape = (len(lines), max(len(line["log_p"]) for line in lines.values()))
    log_p = np.full(shape, -np.inf)
    scores: dict[str, Array] = {}
    for place, line in lines.items():
        log_p[place, : len(line["log_p"])] = line["log_p"]
        for name, values in line["scores"].items():
            table = scores.setdefault(name, np.full(shape, np.nan))
            table[place, : len(values)] = values
    return log_p, scores
