"""Learning curves: points and intervals from stored rows, crossings, files."""

import csv
import math

import numpy as np
import pytest
from toystore import run_spec, wave, write_run

from harness.errors import PlumblineError
from harness.report import learning
from harness.report.frames import read_cell
from harness.report.statistics import Estimate

N = 40
RISING = {20: -0.4, 100: 0.1, 500: 0.6}  # pairs -> what the method adds to gold


@pytest.fixture
def cell(tmp_path):
    """Give a benchmark with a method that rises with its pairs, a flat one, and one that stays."""

    def put(label, shift, **more):
        scores = {"gold": wave(N, shift), "reward": wave(N, 2 * shift)}
        write_run(tmp_path, run_spec("hh_rlhf", label), scores | more, prompts=N)

    put("unsteered", 0.0)
    for pairs, shift in RISING.items():
        put(f"dpo(fraction={pairs / 1000})", shift)
        put(f"static_editing(fraction={pairs / 1000})", 0.35)
    put("prompting", 0.2)
    return read_cell(tmp_path / "runs/toy-7c0d1e44b2/hh_rlhf")


def curves(*names):
    """Name the rows of the methods' points."""
    found = {n: {p: f"{n}(fraction={p / 1000})" for p in RISING} for n in names if n != "prompting"}
    return found | ({"prompting": {0: "prompting"}} if "prompting" in names else {})


def test_points_are_the_rows_means(cell):
    """Each point is its row's mean with an interval around it, in order of pairs."""
    found = learning.learning(cell, curves("dpo"), resamples=400)
    points = found.points["gold"]["dpo"]
    assert points.pairs == (20, 100, 500)
    base = found.reference["gold"].value
    for estimate, shift in zip(points.estimates, RISING.values(), strict=True):
        assert estimate.value == pytest.approx(base + shift, abs=1e-6)
        assert estimate.low < estimate.value < estimate.high
    assert set(found.points) == {"gold", "reward"}


def test_a_crossing_lies_between_the_points_that_changed_sides(cell):
    """A rising curve meets a flat one where a straight line in log pairs puts it."""
    found = learning.learning(cell, curves("dpo", "static_editing"), resamples=400)
    (one,) = [c for c in found.crossings if c.metric == "gold"]
    # -0.25 below at 100 pairs, +0.25 above at 500: half-way on the logarithmic scale
    assert one.pairs == pytest.approx(math.sqrt(100 * 500), rel=1e-3)
    assert one.ahead == "dpo"
    assert one.share == 1.0  # the same answers up to a shift: no resample disagrees
    assert one.low == pytest.approx(one.high, rel=1e-3)
    said = learning.sentence(one)
    assert said.startswith("gold: dpo and static_editing change places at 224 ")
    assert said.endswith("dpo is ahead with more")


def test_a_method_without_pairs_is_a_level(cell):
    """It has one value at any number of pairs, and curves cross it like any other."""
    found = learning.learning(cell, curves("dpo", "prompting"), resamples=400)
    level = found.points["gold"]["prompting"]
    assert level.pairs == ()
    assert len(level.estimates) == 1
    (one,) = [c for c in found.crossings if c.metric == "gold"]
    assert 100 < one.pairs < 500


def test_curves_that_keep_their_order_do_not_cross(cell):
    """Without a change of sign there is no number, and the line says who is ahead."""
    found = learning.learning(cell, curves("static_editing", "prompting"), resamples=400)
    (one,) = [c for c in found.crossings if c.metric == "gold"]
    assert math.isnan(one.pairs)
    assert math.isnan(one.low)
    assert one.share == 0.0
    assert "static_editing is ahead of prompting" in learning.sentence(one)


def test_the_first_change_of_sign_counts():
    """A difference that changes sides twice crosses at the first; zero columns never do."""
    at = np.array([0.0, 1.0, 2.0, 3.0])
    difference = np.array([[-1.0, 1.0, -1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [-3.0, 2.0, 0.0]])
    found = learning.first_crossing(at, difference)
    assert found[0] == pytest.approx(0.5)
    assert np.isnan(found[1:]).all()


def test_an_interval_needs_half_of_the_resamples():
    """A crossing that few resamples show has a share and no interval."""
    flat = learning.Points((), ("b",), (Estimate(0.0),), np.zeros((1, 100)))
    draws = np.tile([[-1.0], [-0.5]], (1, 100))
    draws[1, :10] = 0.5
    rising = learning.Points((10, 100), ("a", "a"), (Estimate(-1.0), Estimate(-0.5)), draws)
    one = learning.crossing("a", rising, "b", flat, "gold")
    assert one.share == pytest.approx(0.1)
    assert math.isnan(one.pairs)
    assert math.isnan(one.low)
    assert one.ahead == "b"


def test_files_hold_every_point(cell, tmp_path):
    """The CSV has a line per metric and point, the reference beside it; the PNG comes last."""
    found = learning.learning(cell, curves("dpo", "static_editing", "prompting"), resamples=400)
    written = learning.write(found, tmp_path / "curves" / "dpo--x")
    assert [path.suffix for path in written] == [".csv", ".csv", ".svg", ".png"]
    assert written[-1].read_bytes().startswith(b"\x89PNG")
    lines = list(csv.DictReader(written[0].read_text().splitlines()))
    assert len(lines) == 2 * (3 + 3 + 1)
    first = lines[0]
    assert (first["metric"], first["method"], first["pairs"]) == ("gold", "dpo", "20")
    assert float(first["value"]) == pytest.approx(found.points["gold"]["dpo"].estimates[0].value)
    assert float(first["unsteered"]) == pytest.approx(found.reference["gold"].value)
    crossings = list(csv.DictReader(written[1].read_text().splitlines()))
    assert {c["first"] for c in crossings} <= {"dpo", "static_editing"}


def test_a_row_that_was_not_run_is_one_line(cell):
    """A point without a run is named."""
    with pytest.raises(PlumblineError, match=r"recontrol\(fraction=0.02\) has no finished run"):
        learning.learning(cell, curves("recontrol"), resamples=50)
