"""The variance of a mean difference, split into its parts."""

import csv
import math

import numpy as np
import pytest
from toystore import run_spec, write_run

from harness.report.comparison import compare
from harness.report.frames import read_cell
from harness.report.tables import write_tables
from harness.report.terms import choose_terms
from harness.report.variance import Split, components, split
from harness.report.variance_page import advice


def named(found):
    """Give components by the first letters of their axes."""
    order = ("fit", "sampling", "prompt")
    return {"".join(a[0] for a in order if a in effect): v for effect, v in found.items()}


def test_components_of_two_seeds_and_two_prompts():
    """Mean squares 4, 9 and 1 over seeds, prompts and the rest, solved by hand."""
    found = components(np.array([[[1.0, 3.0], [2.0, 6.0]]]))
    assert named(found) == pytest.approx({"s": 1.5, "p": 4.0, "sp": 1.0})
    one = Split({"fit": 1, "sampling": 2, "prompt": 2}, found)
    assert one.se == pytest.approx(math.sqrt(3))
    assert one.part("prompt") == pytest.approx(2.0)
    assert one.part("sampling") == pytest.approx(1.0)
    assert one.share("sampling") == pytest.approx(1 / 3)
    assert math.isnan(one.part("fit"))
    assert math.isnan(one.part("residual"))


def test_what_twice_as_many_would_bring():
    """Twice the prompts halve what prompts add, and the answers drawn on single prompts too."""
    one = Split(
        {"fit": 1, "sampling": 2, "prompt": 2}, components(np.array([[[1.0, 3.0], [2.0, 6.0]]]))
    )
    told = advice(one)
    assert told["prompt"] == pytest.approx(1 - math.sqrt((0.75 + 1 + 0.125) / 3))
    assert told["sampling"] == pytest.approx(1 - math.sqrt((0.375 + 2 + 0.125) / 3))
    assert math.isnan(told["fit"])


def test_an_estimate_below_zero_is_zero():
    """Rows that agree better than chance have no component, never a negative one."""
    found = named(components(np.array([[[1.0, -1.0], [-1.0, 1.0]]])))
    assert found["s"] == found["p"] == 0
    assert found["sp"] == pytest.approx(4.0)


def test_what_does_not_vary_is_exactly_zero():
    """The round-off of equal fits is no variance, whatever order sums are taken in."""
    table = np.repeat(np.random.default_rng(4).normal(size=(1, 3, 40)) + 1e3, 3, axis=0)
    found = named(components(table))
    assert found["f"] == found["fs"] == found["fp"] == found["fsp"] == 0.0
    assert found["p"] + found["s"] + found["sp"] > 0.5


def planted(rng, sizes, truth):
    """Draw a crossed table with known components."""
    table = np.full(sizes, 0.3)
    for letters, variance in truth.items():
        shape = [n if axis in letters else 1 for axis, n in zip("fsp", sizes, strict=True)]
        table = table + math.sqrt(variance) * rng.normal(size=shape)
    return table


TRUTH = {"f": 0.2, "s": 0.1, "p": 1.0, "fs": 0.1, "fp": 0.3, "sp": 0.4, "fsp": 0.5}


def test_planted_components_are_recovered():
    """Over 300 crossed tables the estimates' means, and the error of the mean, are the truth's."""
    rng, sizes = np.random.default_rng(0), (6, 6, 30)
    tables = [planted(rng, sizes, TRUTH) for _ in range(300)]
    found = [named(components(table)) for table in tables]
    for letters, variance in TRUTH.items():
        assert np.mean([one[letters] for one in found]) == pytest.approx(variance, rel=0.15)
    axes = dict(zip(("fit", "sampling", "prompt"), sizes, strict=True))
    claimed = np.mean([Split(axes, components(table)).variance() for table in tables])
    assert claimed == pytest.approx(np.var([table.mean() for table in tables]), rel=0.25)


def write(results, method, table, *, learns, keys=12, turns=1, clusters=None):
    """Write a row's runs: ``table`` [fits, seeds, answers] of gold."""
    for f, line in enumerate(table):
        for s, values in enumerate(line):
            fit = {"fits": [f"fit{f}"], "fit_seeds": [f]} if learns else {"fit_seeds": []}
            spec = run_spec("hh_rlhf", method, seed=s, **fit)
            write_run(results, spec, {"gold": values}, prompts=keys, turns=turns, clusters=clusters)


def table_of(results):
    """Read and compare the one benchmark."""
    return compare(read_cell(choose_terms(results, "toy").benchmarks[0]))


def row_of(comparison, label):
    """Find a row."""
    return next(r.row for r in comparison.results if r.row.label == label)


@pytest.fixture
def results(tmp_path):
    """Give a reference of three seeds and rows with and without fits."""
    rng = np.random.default_rng(1)
    prompts = rng.normal(size=12)
    write(tmp_path, "unsteered", prompts + rng.normal(size=(1, 3, 12)), learns=False)
    write(tmp_path, "prompting", 1 + prompts + rng.normal(size=(1, 3, 12)), learns=False)
    fits = np.array([0.0, 2.0, -2.0])[:, None, None]
    write(tmp_path, "recontrol", fits + prompts + 0.1 * rng.normal(size=(3, 3, 12)), learns=True)
    return tmp_path


def test_a_row_is_held_against_the_reference_of_its_own_seed(tmp_path):
    """A row that is the reference plus one, seed by seed, varies with nothing."""
    base = np.random.default_rng(2).normal(size=(1, 3, 12))
    write(tmp_path, "unsteered", base, learns=False)
    write(tmp_path, "prompting", base + 1, learns=False)
    comparison = table_of(tmp_path)
    found = split(comparison, row_of(comparison, "prompting"))
    assert found.mean == pytest.approx(1.0)
    assert found.se == pytest.approx(0.0, abs=1e-9)


def test_fits_that_differ_are_where_the_variance_is(results):
    """Three fits at −2, 0 and 2: nearly all of it; a row that learns nothing has no such part."""
    comparison = table_of(results)
    learned = split(comparison, row_of(comparison, "recontrol"))
    assert learned.sizes == {"fit": 3, "sampling": 3, "prompt": 12}
    assert learned.share("fit") > 0.8
    assert learned.share("fit") + sum(
        learned.share(part) for part in ("sampling", "prompt", "residual")
    ) == pytest.approx(1.0)
    told = advice(learned)
    assert max(told, key=told.get) == "fit"
    plain = split(comparison, row_of(comparison, "prompting"))
    assert math.isnan(plain.share("fit"))
    assert plain.share("sampling") + plain.share("prompt") == pytest.approx(1.0)


def test_the_mean_is_the_tables_own(results):
    """Split or not, the difference is the one that the table prints."""
    comparison = table_of(results)
    printed = {r.row.label: r.difference.value for r in comparison.results if not r.why}
    for label, value in printed.items():
        assert split(comparison, row_of(comparison, label)).mean == pytest.approx(value)


def test_large_clusters_count_for_more(tmp_path):
    """Prompts that share a cluster vary together, and the mean stays that of all answers."""
    rng = np.random.default_rng(3)
    write(tmp_path, "unsteered", np.zeros((1, 2, 12)), learns=False, clusters=5)
    values = rng.normal(size=(1, 2, 12))
    write(tmp_path, "prompting", values, learns=False, clusters=5)
    comparison = table_of(tmp_path)
    found = split(comparison, row_of(comparison, "prompting"))
    assert found.sizes["prompt"] == 5
    assert found.mean == pytest.approx(values.mean())


def test_answers_without_a_value_are_left_out_of_every_run_and_counted(tmp_path):
    """One missing score takes that answer out everywhere, so that the table stays crossed."""
    values = np.random.default_rng(4).normal(size=(1, 2, 12)).tolist()
    write(tmp_path, "unsteered", np.zeros((1, 2, 12)), learns=False)
    values[0][1][5] = None
    write(tmp_path, "prompting", values, learns=False)
    comparison = table_of(tmp_path)
    found = split(comparison, row_of(comparison, "prompting"))
    assert (found.used, found.left, found.sizes["prompt"]) == (11, 1, 11)


def test_runs_that_are_not_crossed_are_not_split(tmp_path):
    """A fit that lacks a seed leaves a hole; the page says how many runs there are."""
    rng = np.random.default_rng(5)
    write(tmp_path, "unsteered", rng.normal(size=(1, 2, 12)), learns=False)
    write(tmp_path, "recontrol", rng.normal(size=(2, 2, 12)), learns=True)
    runs = sorted(tmp_path.glob("runs/*/hh_rlhf/recontrol/*"))
    (runs[0] / "done").unlink()
    comparison = table_of(tmp_path)
    assert split(comparison, row_of(comparison, "recontrol")).startswith("3 of 2 × 2 runs")


def test_seeds_without_a_reference_are_not_split(tmp_path):
    """A seed that unsteered was not run under has nothing to be compared with."""
    rng = np.random.default_rng(6)
    write(tmp_path, "unsteered", rng.normal(size=(1, 1, 12)), learns=False)
    write(tmp_path, "prompting", rng.normal(size=(1, 2, 12)), learns=False)
    comparison = table_of(tmp_path)
    said = split(comparison, row_of(comparison, "prompting"))
    assert said == "seeds that the reference was not run under"


def test_the_page_is_written_where_there_are_several_runs(results):
    """variance.md says what to spend on; its CSV has every component."""
    names = {path.name for path in write_tables(results, "toy")}
    assert {"variance.md", "variance.csv", "variance.tex"} <= names
    out = results / "tables" / "toy"
    text = (out / "variance.md").read_text()
    assert "3 × 3 × 12 |" in text
    assert "3 fits say little of how much fits vary" in text
    lines = list(csv.DictReader((out / "variance.csv").read_text().splitlines()))
    learned, plain = (
        next(x for x in lines if x["method"] == m) for m in ("recontrol", "prompting")
    )
    assert float(learned["component_fit"]) == pytest.approx(4.0, rel=0.2)
    assert float(learned["se_falls_with_one_more_fit"]) > 0.1
    assert plain["variance_fit"] == ""


def test_a_row_that_changes_nothing_has_nothing_to_split(tmp_path):
    """Its difference is zero everywhere: no part is known, and the page stands all the same."""
    base = np.random.default_rng(3).normal(size=(1, 3, 12))
    for method in ("unsteered", "prompt_rewrite"):
        write(tmp_path, method, base, learns=False)
    write_tables(tmp_path, "toy")
    text = (tmp_path / "tables" / "toy" / "variance.md").read_text()
    (row,) = (one for one in text.splitlines() if "prompt_rewrite |" in one)
    assert row.count("–") >= 6


def test_one_run_a_row_writes_no_page(tmp_path):
    """Without seeds there is nothing to split, and an older page does not stay."""
    for method in ("unsteered", "prompting"):
        write(tmp_path, method, np.zeros((1, 1, 12)), learns=False)
    stale = tmp_path / "tables" / "toy" / "variance.md"
    stale.parent.mkdir(parents=True)
    stale.write_text("of another day")
    names = {path.name for path in write_tables(tmp_path, "toy")}
    assert "variance.md" not in names
    assert not stale.exists()
