"""How close an answer stays to what was asked.

As RE-Control computes it (Kong et al., arXiv 2406.05954): the cosine of the sentence embeddings
of prompt and answer.  The prompt is the item's dialogue and, in later turns, the questions asked
since: words only, without role labels, without what a method put before them, and without the
model's own earlier answers.  Their encoder is princeton-nlp/sup-simcse-bert-base-uncased; numbers
of two encoders do not compare, so tables print the encoder's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from harness.api import Answered, Score, Scorer


def asked(item: Answered) -> str:
    """Give the words that an answer is held against."""
    dialogue = [m.text for m in item.prompt.chat.messages if m.role != "system"]
    return "\n".join([*dialogue, *item.prompt.turns[: item.response.turn]])


class Metric(Scorer):
    """Cosine of the embeddings of prompt and answer, from -1 to 1."""

    about: ClassVar[str] = "cosine of the sentence embeddings of prompt and answer"

    def skip(self) -> str | None:
        """Say that there is no sentence encoder."""
        if self.instruments.embed is None:
            return "no sentence encoder under [coherence]"
        return None

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Embed every prompt and every answer once; an empty text is embedded as one blank."""
        assert self.instruments.embed is not None
        prompts = [asked(item) or " " for item in answered]
        answers = [item.response.text or " " for item in answered]
        vectors = self.instruments.embed([*prompts, *answers])
        before, after = vectors[: len(answered)], vectors[len(answered) :]
        return [
            Score(*item.key, max(-1.0, min(1.0, sum(a * b for a, b in zip(p, r, strict=True)))))
            for item, p, r in zip(answered, before, after, strict=True)
        ]
