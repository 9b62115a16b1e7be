"""Stacks held against their parts: gains, interactions and orders by hand, and what is written."""

import csv
import math
import subprocess
import sys

import pytest
from toystore import HASH, run_spec, wave, write_run

from harness.report import matrix, matrix_page
from harness.report.frames import Cell, read_cell

N = 24
SHIFTS = {
    "unsteered": 0.0,
    "a": 1.0,
    "b": 0.5,
    "c": 0.2,
    "a+b": 1.3,  # 0.3 over a; 0.2 less than the sum
    "b+a": 1.2,
    "a+c": 1.2,  # 0.2 over a; what the sum is
    "a+b+c": 1.7,  # 0.7 over a; the sum is 1.7
}
CROSSED = matrix.Crossed(
    "toy",
    HASH,
    {"a": "prompt", "b": "model", "c": "drawing"},
    {("a", "b"): "a+b", ("a", "c"): "a+c", ("a", "b", "c"): "a+b+c"},
    {("b", "a"): "b+a"},
    {("b", "c"): "two methods in the stack search among candidates"},
    {"d": "the protocol does not grant: a reward"},
)


def put(results, shifts, benchmark="hh_rlhf", *, noise=0.0, prompts=N):
    """Write one run a row; noise gives each row deviations of its own."""
    for number, (label, shift) in enumerate(shifts.items()):
        own = [noise * math.sin(3.7 * i + 11 * number) for i in range(prompts)]
        gold = [v + o for v, o in zip(wave(prompts, shift), own, strict=True)]
        write_run(results, run_spec(benchmark, label), {"gold": gold}, prompts=prompts)
    return read_cell(results / f"runs/toy-{HASH}/{benchmark}")


def crossed(cells, **words):
    """Compute matrices with few resamples."""
    return matrix.matrices(cells, CROSSED, resamples=words.pop("resamples", 400))


def test_gain_interaction_and_order_are_what_they_say(tmp_path):
    """Shifts of every answer make every contrast exact."""
    (found,), faults = crossed([put(tmp_path, SHIFTS)])
    assert faults == []
    gains = {s.label: s.gain.value for s in found.stacks}
    assert gains == pytest.approx({"a+b": 0.3, "a+c": 0.2, "a+b+c": 0.7}, abs=1e-9)
    both = {s.label: s.interaction.value for s in found.stacks}
    assert both == pytest.approx({"a+b": -0.2, "a+c": 0.0, "a+b+c": 0.0}, abs=1e-9)
    assert [s.better for s in found.stacks] == ["a", "a", "a"]
    orders = [s.order.value if s.order else None for s in found.stacks]
    assert orders == [pytest.approx(0.1, abs=1e-9), None, None]
    assert {p: e.value for p, e in found.over.items()} == pytest.approx(
        {"a": 1.0, "b": 0.5, "c": 0.2}, abs=1e-9
    )


def test_intervals_hold_for_all_stacks_at_once(tmp_path):
    """They are wider than one stack's own, and widen with the number of stacks."""
    cell = put(tmp_path, SHIFTS, noise=0.4)
    (found,), _ = crossed([cell])
    few = matrix.Crossed("toy", HASH, CROSSED.parts, {("a", "b"): "a+b"})
    (alone,), _ = matrix.matrices([cell], few, resamples=400)
    wide, narrow = found.stacks[0].gain, alone.stacks[0].gain
    assert wide.value == narrow.value
    assert wide.high - wide.low > narrow.high - narrow.low > 0


def test_the_better_part_is_each_benchmarks_own(tmp_path):
    """Where b is better alone, the gain is held against b."""
    other = SHIFTS | {"b": 1.25}
    (first, second), _ = crossed(
        [put(tmp_path, SHIFTS), put(tmp_path, other, "harmful_qa", prompts=18)]
    )
    assert (first.stacks[0].better, second.stacks[0].better) == ("a", "b")
    assert second.stacks[0].gain.value == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"b": None}, "b has no finished run"),
        ({"unsteered": None}, "unsteered has no finished run"),
    ],
)
def test_a_part_that_was_not_run_leaves_no_matrix(tmp_path, change, said):
    """The benchmark is named with what is missing; no number is made up."""
    rows = {k: v for k, v in (SHIFTS | change).items() if v is not None}
    found, (fault,) = crossed([put(tmp_path, rows)])
    assert found == []
    assert said in fault


def test_rows_over_other_items_are_refused(tmp_path):
    """A stack that answered fewer prompts is not paired with parts that answered more."""
    put(tmp_path, {k: v for k, v in SHIFTS.items() if k != "a+c"})
    cell = put(tmp_path, {"a+c": 1.2}, prompts=N - 2)
    _, (fault,) = crossed([cell])
    assert "answered different items" in fault


def test_a_stack_without_a_run_is_an_empty_cell(tmp_path):
    """It is listed as missing; the others are computed."""
    rows = {k: v for k, v in SHIFTS.items() if k != "a+c"}
    (found,), faults = crossed([put(tmp_path, rows)])
    assert faults == []
    assert found.missing == (("a", "c"),)
    assert [s.label for s in found.stacks] == ["a+b", "a+b+c"]


def test_everything_is_written_and_empty_cells_are_counted(tmp_path):
    """Page, LaTeX, numbers, a heat map each and one over all; refusals with their reason."""
    cells = [put(tmp_path, SHIFTS), put(tmp_path, SHIFTS, "harmful_qa")]
    found, _ = crossed(cells)
    stem = tmp_path / "matrix" / "a--b--c"
    written = matrix_page.write(found, CROSSED, stem)
    assert written[0].name == "a--b--c.md"
    assert {p.name.removeprefix("a--b--c") for p in written} == {
        ".md", ".tex", ".csv", ".png", ".svg",
        ".hh_rlhf.png", ".hh_rlhf.svg", ".harmful_qa.png", ".harmful_qa.svg",
    }  # fmt: skip
    text = written[0].read_text()
    assert "Empty cells (2)" in text
    assert "b+c: two methods in the stack search among candidates" in text
    assert "d with anything: the protocol does not grant" in text
    with (tmp_path / "matrix" / "a--b--c.csv").open() as file:
        lines = {(line["benchmark"], line["stack"]): line for line in csv.DictReader(file)}
    assert float(lines["hh_rlhf", "a+b"]["interaction"]) == pytest.approx(-0.2, abs=1e-5)
    assert float(lines["hh_rlhf", "a+b"]["order"]) == pytest.approx(0.1, abs=1e-5)
    before = {p: p.read_bytes() for p in written}
    matrix_page.write(crossed(cells)[0], CROSSED, stem)
    assert {p: p.read_bytes() for p in written} == before


def test_a_line_says_each_stack(tmp_path):
    """Benchmark, stack, score, the gain over which part, the interaction, the other order."""
    (found,), _ = crossed([put(tmp_path, SHIFTS)])
    first = matrix.sentences([found])[0]
    assert first.startswith("hh_rlhf  a+b  gold ")
    assert "over a; interaction −0.2" in first
    assert "the other way round −0.1" in first


def test_no_torch_is_loaded_for_it():
    """Computing and drawing a matrix needs no torch."""
    code = "import harness.report.matrix_page, sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_win_rate_is_even_for_the_reference(tmp_path):
    """Where the headline is a judge's, the base model counts as a half."""
    for label, rate in (("unsteered", None), ("a", 0.6), ("b", 0.7), ("a+b", 0.8)):
        scores = {"reward": wave(N, 0.0)}
        if rate:
            scores["win_rate@j"] = [rate] * N
        write_run(tmp_path, run_spec("hh_rlhf", label), scores, prompts=N)
    cell = read_cell(tmp_path / f"runs/toy-{HASH}/hh_rlhf")
    pair = matrix.Crossed("toy", HASH, {"a": "prompt", "b": "model"}, {("a", "b"): "a+b"})
    (found,), _ = matrix.matrices([cell], pair, resamples=400)
    assert found.metric == "win_rate@j"
    assert found.stacks[0].interaction.value == pytest.approx(0.8 - 0.6 - 0.7 + 0.5)
    assert isinstance(found.cell, Cell)
