"""A sweep: points in order of strength, scores read at equal KL, what is written."""

import csv
import math

import numpy as np
import pytest
from toystore import HASH, run_spec, wave, write_run

from harness.errors import PlumblineError
from harness.report.frames import read_cell
from harness.report.law import Readings
from harness.report.sweep import read_at, sentences, sweep, write

LABELS = {0.0: "toy(w=0)", 1.0: "toy(w=1)", 2.0: "toy(w=2)", 4.0: "toy(w=4)"}
KL = {0.0: 0.0, 1.0: 1.0, 2.0: 3.0, 4.0: 6.0}


@pytest.fixture
def cell(tmp_path):
    """Write a sweep whose gold rises, then falls, while its reward goes on rising."""
    write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": wave(12, 0.0), "kl": [0.0] * 12})
    for w, label in LABELS.items():
        gold = w if w <= 2 else 0.5
        scores = {
            "gold": wave(12, gold),
            "reward": wave(12, w, phase=1),
            "kl": [KL[w]] * 12,
            "win_rate@toy": [0.5] * 12,
        }
        write_run(
            tmp_path, run_spec("hh_rlhf", label), scores, tokens={"policy": int(100 * (1 + w))}
        )
    return read_cell(tmp_path / "runs" / f"toy-{HASH}" / "hh_rlhf")


def test_scores_are_read_at_equal_kl(cell):
    """Between two strengths a straight line in KL; beyond the last nothing."""
    found = sweep(cell, "toy.w", LABELS, resamples=200)
    assert found.metrics == ("gold", "reward", "win_rate@toy")
    assert [p.strength for p in found.points] == [0.0, 1.0, 2.0, 4.0]
    gold = {one.kl: one.estimate for one in found.at_kl if one.metric == "gold"}
    means = {p.strength: p.scores["gold"].value for p in found.points}
    assert gold[2.0].value == pytest.approx((means[1.0] + means[2.0]) / 2)
    assert gold[4.0].value == pytest.approx(means[2.0] + (means[4.0] - means[2.0]) / 3)
    assert gold[2.0].low < gold[2.0].value < gold[2.0].high
    assert math.isnan(gold[8.0].value)
    assert [p.tokens for p in found.points] == sorted(p.tokens for p in found.points)


def test_going_too_far_is_said(cell):
    """Where reward goes on rising while gold falls, a line says so."""
    lines = sentences(sweep(cell, "toy.w", LABELS, resamples=200))
    assert any("over-optimised beyond toy.w=2: at 4" in line for line in lines)


def test_a_bound_stands_for_a_kl_that_is_not_measured(tmp_path):
    """A search's KL is its bound, and the table says which it is."""
    for n, bound in ((1, 0.0), (2, 0.19), (8, 2.2)):
        spec = run_spec(
            "hh_rlhf", f"best(n={n})", kl={"kind": "bound", "bound": bound, "reason": ""}
        )
        write_run(tmp_path, spec, {"gold": wave(12, float(n))})
    cell = read_cell(tmp_path / "runs" / f"toy-{HASH}" / "hh_rlhf")
    found = sweep(cell, "best.n", {float(n): f"best(n={n})" for n in (1, 2, 8)}, resamples=200)
    assert [p.kl.value for p in found.points] == [0.0, 0.19, 2.2]
    assert {p.kind for p in found.points} == {"bound"}
    assert not math.isnan(found.at_kl[0].estimate.value)


def test_files_hold_what_was_read(cell, tmp_path):
    """CSV of points, of readings at equal KL and of the law; the PNG is last."""
    c = np.array(list(LABELS))
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1, 50)) * 0.1
    read = Readings(c, c[:, None] * (1 + noise), -(c[:, None] ** 2) * (1 + noise))
    found = sweep(cell, "toy.w", LABELS, read, resamples=200)
    assert found.law is not None
    assert found.law.holds
    paths = write(found, tmp_path / "sweeps" / "toy")
    assert [p.name for p in paths] == [
        f"toy.hh_rlhf.{end}" for end in ("csv", "at_kl.csv", "law.csv", "svg", "png")
    ]
    lines = list(csv.DictReader(paths[0].read_text("utf-8").splitlines()))
    assert [float(line["toy.w"]) for line in lines] == [0.0, 1.0, 2.0, 4.0]
    assert [float(line["kl"]) for line in lines] == [0.0, 1.0, 3.0, 6.0]
    assert float(lines[2]["capability"]) == pytest.approx(float(read.capability[2].mean()))
    again = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in write(found, tmp_path / "sweeps" / "toy")] == again
    assert any(line.startswith("law holds up to 2") for line in sentences(found))


def test_rows_that_do_not_belong_together_are_refused(cell, tmp_path):
    """A point that was not run, and one over other items, give one clear line."""
    with pytest.raises(PlumblineError, match=r"toy\(w=9\) has no finished run"):
        sweep(cell, "toy.w", {**LABELS, 9.0: "toy(w=9)"})
    write_run(tmp_path, run_spec("hh_rlhf", "toy(w=5)"), {"gold": wave(8, 1.0)}, prompts=8)
    more = read_cell(tmp_path / "runs" / f"toy-{HASH}" / "hh_rlhf")
    with pytest.raises(PlumblineError, match="answered different items"):
        sweep(more, "toy.w", {**LABELS, 5.0: "toy(w=5)"})


def test_the_first_place_is_taken_where_kl_is_not_rising():
    """A KL that comes back is read where it is first reached."""
    x = np.array([[0.0], [3.0], [1.0], [5.0]])
    y = np.array([[0.0], [3.0], [9.0], [9.0]])
    assert read_at(x, y, 2.0) == pytest.approx([2.0])
    assert np.isnan(read_at(x, y, 6.0)).all()
