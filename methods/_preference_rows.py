"""Preference pairs as token ids, cut nowhere: what does not fit is left out and counted.

The prompt is encoded as it is while decoding, so that training and decoding agree to the
token, whatever a chat template or a tokenizer would do at the boundary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.api import Lab, PlumblineError, Preference

LEFT_OUT = ("empty answer", "equal answers", "too long")


@dataclass(frozen=True)
class Row:
    """One pair in tokens; both answers close with the end of turn."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def tokens(self) -> int:
        """How many positions both texts have."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


def rows_of(
    lab: Lab, pairs: Sequence[Preference], max_length: int = 0
) -> tuple[list[Row], dict[str, int]]:
    """Encode pairs as the left neighbours prompt them, and count what was left out, by reason.

    max_length  of prompt and answer together; 0 is as much as the model reads.
    """
    model = lab.model
    end = list(model.ends[:1])
    longest = min(max_length, model.context) if max_length else model.context
    rows, dropped = [], dict.fromkeys(LEFT_OUT, 0)
    seen = lab.left.prompted([pair.prompt for pair in pairs])
    for pair, chat in zip(pairs, seen, strict=True):
        good, bad = (model.encode_answer(chat, text) for text in (pair.chosen, pair.rejected))
        if not good or not bad:
            dropped["empty answer"] += 1
        elif good == bad:
            dropped["equal answers"] += 1
        elif len(prompt := model.encode(chat)) + len(max(good, bad, key=len) + end) > longest:
            dropped["too long"] += 1
        else:
            rows.append(Row(prompt, good + end, bad + end))
    return rows, dropped


def usable(lab: Lab, max_length: int, name: str) -> tuple[list[Row], dict[str, int]]:
    """Encode the lab's pairs; raises PlumblineError where none is left to learn from."""
    rows, dropped = rows_of(lab, lab.pairs, max_length)
    if not rows:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise PlumblineError(
            f"{name}: no preference pair is left to learn from, of {len(lab.pairs)} "
            f"({why or 'none were given'})"
        )
    return rows, dropped


def shuffled_labels(rows: Sequence[Row], seed: int) -> list[Row]:
    """Toss a coin for every pair: which answer is called the better one says nothing any more."""
    rng = random.Random(f"labels {seed}")
    return [
        replace(row, chosen=row.rejected, rejected=row.chosen) if rng.random() < 0.5 else row
        for row in rows
    ]
