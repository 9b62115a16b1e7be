"""The length scorer."""

from benchmarks.metrics.length import Metric
from harness.api import Instruments


def test_it_counts_tokens_and_characters(answered):
    """The value is the tokens drawn; characters, which judges' corrections use, are a part."""
    metric = Metric(Instruments())
    (score,) = metric.score([answered("q", "two words", tokens=[5, 6, 2])], {})
    assert (score.value, score.parts) == (3.0, {"characters": 9.0})
    assert metric.higher_is_better is None
