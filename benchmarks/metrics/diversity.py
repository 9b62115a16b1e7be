"""How little an answer repeats itself.

As RE-Control computes it (Kong et al., arXiv 2406.05954): over word n-grams, n = 2, 3, 4,

    rep_n = 1 - |unique n-grams| / (|n-grams| + 1),    diversity = prod_n (1 - rep_n).

The one in the denominator is theirs: N tokens without a repeat give (N - 3) / N, and three or
fewer give 0.  So the value grows with length, and length is to be read beside it.

Words are NLTK's, as ``nltk.word_tokenize`` cuts them, but sentences are found by an untrained
Punkt, which needs no download; a full stop after an abbreviation may become a token of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from harness.api import Answered, Score, Scorer

ORDERS = (2, 3, 4)


@cache
def _tokenizers() -> tuple[Any, Any]:
    from nltk.tokenize.destructive import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return PunktSentenceTokenizer(), NLTKWordTokenizer()


def words(text: str) -> list[str]:
    """Cut a text into word and punctuation tokens."""
    sentences, tokens = _tokenizers()
    return [token for sentence in sentences.tokenize(text) for token in tokens.tokenize(sentence)]


def unique_share(tokens: Sequence[str], order: int) -> float:
    """Give |unique n-grams| / (|n-grams| + 1)."""
    grams = [tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1)]
    return len(set(grams)) / (len(grams) + 1)


class Metric(Scorer):
    """Share of unique word n-grams, multiplied over n = 2, 3, 4; from 0 towards 1."""

    about: ClassVar[str] = "share of unique word 2-, 3- and 4-grams (grows with length)"

    def score(
        self, answered: Sequence[Answered], reference: Mapping[tuple[str, int], str]
    ) -> Sequence[Score]:
        """Measure each answer on its own; the mean over answers is the published number."""
        scores = []
        for item in answered:
            tokens = words(item.response.text)
            shares = {order: unique_share(tokens, order) for order in ORDERS}
            value = 1.0
            for share in shares.values():
                value *= share
            parts = {f"rep_{order}": 1 - share for order, share in shares.items()}
            scores.append(Score(*item.key, value, parts=parts))
        return scores
