"""Hidden states of labelled pairs: one teacher-forced pass over each side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.api import Lab, Preference, Site
from methods._directions import FEWEST, accuracy

Fit = Literal["last", "mean"]
HELD = 5  # one pair in five is held out to rank places


@dataclass(frozen=True)
class PairStates:
    """States of the preferred and the rejected answers; row i of both is ``pairs[i]``.

    good, bad  site -> [pairs, ...], float32 on the CPU.
    dropped    pairs left out, by reason.
    """

    pairs: tuple[Preference, ...]
    good: dict[Site, Tensor]
    bad: dict[Site, Tensor]
    dropped: dict[str, int]

    def rewards(self, lab: Lab) -> Tensor:
        """Give the granted rewards, preferred answers first: [2 pairs]."""
        chats = [pair.prompt for pair in self.pairs] * 2
        texts = [p.chosen for p in self.pairs] + [p.rejected for p in self.pairs]
        return torch.tensor(lab.reward.score(chats, texts), dtype=torch.float64)

    def ranked(self) -> list[tuple[Site, float]]:
        """Rank sites by the accuracy of a probe on held-out pairs, best first."""
        found = [(site, held_accuracy(self.good[site], self.bad[site])) for site in self.good]
        return sorted(found, key=lambda entry: -entry[1])

    def best_heads(self, count: int) -> tuple[list[tuple[Site, int]], dict[str, list[float]]]:
        """Give the heads whose probes are most accurate on held-out pairs, and every accuracy."""
        table = {
            site: [
                round(held_accuracy(good[:, head], self.bad[site][:, head]), 4)
                for head in range(good.shape[1])
            ]
            for site, good in self.good.items()
        }
        order = sorted(
            ((site, head) for site, row in table.items() for head in range(len(row))),
            key=lambda entry: -table[entry[0]][entry[1]],
        )
        return order[:count], {str(site): row for site, row in table.items()}


def read_pairs(lab: Lab, pairs: Sequence[Preference], sites: Sequence[Site], at: Fit) -> PairStates:
    """Read each conversation followed by each of its two answers.

    at  the state of the answer's last token, or the mean over its tokens.

    Pairs with an empty answer, equal answers, or more tokens than the model reads are left
    out.  Raises PlumblineError for a site that the model does not have.
    """
    model = lab.model
    dropped = {"empty answer": 0, "equal answers": 0, "too long": 0}
    kept: list[tuple[Preference, list[int], list[int]]] = []
    seen = lab.left.prompted([pair.prompt for pair in pairs])
    for pair, chat in zip(pairs, seen, strict=True):
        good, bad = (model.encode_answer(pair.prompt, a) for a in (pair.chosen, pair.rejected))
        if not good or not bad:
            dropped["empty answer"] += 1
        elif good == bad:
            dropped["equal answers"] += 1
        elif len(model.encode(chat)) + max(len(good), len(bad)) > model.context:
            dropped["too long"] += 1
        else:
            kept.append((pair, good, bad))
    chats = [pair.prompt for pair, *_ in kept]
    sides = []
    for answers in ([good for _, good, _ in kept], [bad for *_, bad in kept]):
        found: dict[Site, dict[int, Tensor]] = {site: {} for site in sites}
        for batch in lab.record(chats, answers, sites, at=at):
            for site in sites:
                rows = zip(batch.texts, batch.states[site], strict=True)
                found[site] |= {i: state.float().cpu() for i, state in rows}
        sides.append(
            {s: torch.stack([f[i] for i in range(len(kept))]) for s, f in found.items() if f}
        )
    return PairStates(tuple(pair for pair, *_ in kept), sides[0], sides[1], dropped)


def held_accuracy(good: Tensor, bad: Tensor) -> float:
    """Fit a probe on four pairs in five, score it on the fifth; 0.5 where there are too few."""
    held = torch.arange(len(good)) % HELD == 0
    if int((~held).sum()) < FEWEST:
        return 0.5
    return accuracy(good[~held], bad[~held], good[held], bad[held])
