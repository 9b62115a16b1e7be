import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from toystore import golden_store, run_spec, wave, write_run, write_skip

from harness.report.comparison import compare
from harness.report.figures import _limits, draw_benchmark, draw_overall, folded, legible, shortened
from harness.report.frames import read_cell
from harness.report.statistics import Estimate

ROOT = Path(__file__).parents[3]


def comparison(results, benchmark="hh_rlhf"):
    """Compare one toy benchmark with few resamples."""
    return compare(read_cell(results / "runs/toy-7c0d1e44b2" / benchmark), resamples=500)


def words(path):
    """Collect the text of an SVG file."""
    return ["".join(e.itertext()) for e in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_the_forest_names_every_row_and_its_interval(tmp_path):
    """Each row but the reference stands in the figure with its numbers and marks."""
    golden_store(tmp_path)
    paths = draw_benchmark(comparison(tmp_path), tmp_path)
    text = words(tmp_path / "hh_rlhf.svg")
    assert {"best_of_n(n=4)", "recontrol †", "HH-RLHF"} <= set(text)
    assert sum("[" in word for word in text) == 2
    assert {path.suffix for path in paths} == {".png", ".svg"}
    assert (tmp_path / "hh_rlhf.png").read_bytes().startswith(b"\x89PNG")


def test_a_skipped_row_says_so_in_the_overall_figure(tmp_path):
    """Where a row has no difference, the word for it stands in its place."""
    golden_store(tmp_path)
    both = [comparison(tmp_path, name) for name in ("hh_rlhf", "mt_bench")]
    draw_overall(both, tmp_path)
    text = words(tmp_path / "overall.svg")
    assert "skipped" in text
    assert {"HH-RLHF", "MT-Bench"} <= set(text)


def test_the_reference_alone_needs_no_figure(tmp_path):
    """Without a difference there is nothing to draw."""
    write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": wave(9, 0.0)}, prompts=9)
    write_skip(tmp_path, "hh_rlhf", "dpo", "no pairs")
    assert draw_benchmark(comparison(tmp_path), tmp_path) == []
    assert draw_overall([comparison(tmp_path)], tmp_path) == []


def test_text_that_the_typeface_lacks_is_replaced():
    """Marks and Latin stay; other scripts become question marks instead of warnings."""
    assert legible("café § † 漢字\n$x$") == "café § † ?? $x$"


def test_a_long_label_is_folded_at_its_commas():
    """No line is longer than one part needs, nothing is lost, a short label stays whole."""
    label = "alignez(site=resid_post,at=mean,strength=512.0,layers=(0,))+prompting(shots=3)"
    lines = folded(label).split("\n")
    assert "".join(lines) == label
    assert max(map(len, lines)) <= 34
    assert len(lines) > 1
    assert folded("prompting+recontrol †") == "prompting+recontrol †"


def test_a_figure_of_long_labels_has_room(tmp_path):
    """Five panels beside a label of a hundred characters are drawn without a complaint."""
    golden_store(tmp_path)
    one = comparison(tmp_path)
    results = [
        replace(r, row=replace(r.row, label=f"{r.row.label}({',a_field=1' * 12})"))
        for r in one.results
    ]
    draw_overall([replace(one, results=results)] * 5, tmp_path)


def test_the_users_style_changes_nothing(tmp_path):
    """A matplotlib setting of the user's leaves the bytes as they are."""
    import matplotlib

    golden_store(tmp_path)
    one = comparison(tmp_path)
    before = [path.read_bytes() for path in draw_benchmark(one, tmp_path)]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        after = [path.read_bytes() for path in draw_benchmark(one, tmp_path)]
    assert before == after


def test_matplotlib_is_not_imported_before_it_is_needed():
    """Importing the tables imports neither matplotlib nor torch."""
    program = (
        "import sys, harness.report.tables, harness.report.figures;"
        "assert not {'matplotlib', 'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_a_joint_interval_without_end_leaves_room_for_the_others():
    """Rows' own intervals fit whole; a joint one is cut a quarter of their span beyond them."""
    own = [Estimate(1.0, 0.0, 2.0), Estimate(-1.0, -2.0, 0.0), Estimate(0.5)]
    near = [Estimate(1.0, -0.5, 2.5), Estimate(-1.0, -2.5, 0.5)]
    assert _limits(own, near) == pytest.approx((-2.5 - 0.12, 2.5 + 0.12))
    far = [*near, Estimate(0.5, -70.0, 71.0)]
    assert _limits(own, far) == pytest.approx((-3.0 - 0.12, 3.0 + 0.12))
    assert _limits([], []) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("genarm", "genarm"),
        ("best_of_n(n=32) [tuned, 8 trials]", "best_of_n, tuned"),
        ("prompting(instruction='a (b)')+recontrol(n=3)", "prompting+recontrol"),
        ("dpo(fraction=0.25)", "dpo"),
    ],
)
def test_a_label_can_go_without_its_fields(label, short):
    """Where a figure has no room, the method and that it was tuned are enough."""
    assert shortened(label) == short
