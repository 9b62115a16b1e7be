import csv
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toystore import ABOUT, golden_store, large_store, run_spec, wave, write_run

from harness.errors import PlumblineError
from harness.report.tables import cell_summary, write_tables

GOLDENS = Path(__file__).parents[2] / "goldens"
COUNT = 24


def copied(tmp_path):
    """Copy the stored toy store."""
    shutil.copytree(GOLDENS / "store" / "runs", tmp_path / "runs")
    return tmp_path


def text_of(results, name):
    """Read one written table."""
    return (results / "tables" / "toy" / name).read_text("utf-8")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Write the larger toy store and its tables once."""
    results = tmp_path_factory.mktemp("large")
    large_store(results, prompts=24)
    write_tables(results, "toy")
    return results


def test_the_stored_store_prints_the_stored_tables(tmp_path):
    """Markdown, CSV and LaTeX of every benchmark and overall, byte for byte."""
    results = copied(tmp_path)
    written = write_tables(results, "toy")
    texts = [path for path in written if path.suffix in (".md", ".csv", ".tex")]
    stored = sorted((GOLDENS / "tables").iterdir())
    assert sorted(path.name for path in texts) == [path.name for path in stored]
    for path in texts:
        assert path.read_bytes() == (GOLDENS / "tables" / path.name).read_bytes(), path.name


def test_the_stored_store_is_the_one_the_toy_writes(tmp_path):
    """The goldens can be made again from their formula."""
    golden_store(tmp_path)
    for path in sorted((GOLDENS / "store").rglob("*.json*")):
        made = tmp_path / path.relative_to(GOLDENS / "store")
        assert made.read_bytes() == path.read_bytes(), path.name


def test_overall_comes_first_and_nothing_is_missing(tmp_path):
    """The paths are given, overall.md first, and every one exists."""
    written = write_tables(copied(tmp_path), "toy")
    assert written[0].name == "overall.md"
    assert all(path.stat().st_size for path in written)
    names = {path.name for path in written}
    for name in ("overall", "hh_rlhf", "mt_bench"):
        assert {f"{name}.{kind}" for kind in ("md", "csv", "tex", "png", "svg")} <= names
    assert {"hh_rlhf.best_of_n.png", "hh_rlhf.best_of_n.svg"} <= names


def test_an_unchanged_store_gives_the_same_bytes(tmp_path):
    """Tables and figures written twice are identical, figures included."""
    results = copied(tmp_path)
    first = {path: path.read_bytes() for path in write_tables(results, "toy")}
    assert {path: path.read_bytes() for path in write_tables(results, "toy")} == first


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path):
    """Neither the hash seed nor the process leaves a trace in any file."""
    results = copied(tmp_path)
    first = {path.name: path.read_bytes() for path in write_tables(results, "toy")}
    program = (
        "import sys; from pathlib import Path; from harness.report.tables import write_tables;"
        "write_tables(Path(sys.argv[1]), 'toy'); assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", program, str(results)]
    root = Path(__file__).parents[3]
    subprocess.run(command, check=True, cwd=root, env={"PYTHONHASHSEED": "77", "PATH": ""})
    for path in (results / "tables" / "toy").iterdir():
        assert path.read_bytes() == first[path.name], path.name


def test_a_table_explains_itself(large):
    """First the testbed's own line, then how to read it, then the table, then the legend."""
    lines = text_of(large, "hh_rlhf.md").splitlines()
    assert lines[0] == ABOUT
    starts = ("How to read it", "| method", "## Legend", "## Left out or odd", "## Terms")
    where = [next(i for i, row in enumerate(lines) if row.startswith(s)) for s in starts]
    assert where == sorted(where)
    assert "make tables PROTOCOL=toy" in lines[-1]
    assert "7c0d1e44b2" in lines[-2]


def test_the_legend_lists_only_what_occurs(large):
    """Marks that no row carries are not explained; those that occur are."""
    text = text_of(large, "hh_rlhf.md")
    assert "another_seed ∘" in text
    assert "oracle_best_of_n(n=8) §" in text
    assert "- ∘:" in text
    assert "†" not in text
    assert "‡" not in text


def test_marks_come_from_records_not_from_names(tmp_path):
    """A method called oracle without the mark carries none."""
    for name, marks in (("unsteered", []), ("oracle", []), ("plain", ["transductive"])):
        spec = run_spec("hh_rlhf", name, marks=marks)
        write_run(tmp_path, spec, {"gold": wave(COUNT, 0.0)}, prompts=COUNT)
    write_tables(tmp_path, "toy")
    text = text_of(tmp_path, "hh_rlhf.md")
    assert "§" not in text
    assert "plain †" in text


def test_bold_means_that_the_interval_leaves_zero_out(large):
    """In every table, bold cells and only they have both bounds on one side of zero."""
    found = 0
    for name in ("overall.md", "hh_rlhf.md", "mt_bench.md"):
        pattern = r"(\*\*)?[+−]?[\d.]+ \[([+−]?)[\d.]+, ([+−]?)[\d.]+\](\*\*)?"
        for row in text_of(large, name).splitlines():
            for start, low, high, end in re.findall(pattern, row):
                if "+" in (low, high) or "−" in (low, high):
                    signed = (low, high) in (("+", "+"), ("−", "−"))
                    if "+" in (low, high) or start:
                        assert (start == end == "**") == signed, row
                        found += 1
    assert found > 20


def test_a_row_that_shows_no_difference_is_marked(large):
    """Where the interval holds zero the cell says so, and the legend what the mark means."""
    grid = text_of(large, "hh_rlhf.md").split("## Further")[0].splitlines()
    row = next(row for row in grid if row.startswith("| another_seed"))
    assert re.search(r"\[−[\d.]+, \+[\d.]+\] ≈ \|", row)
    assert not re.search(r"\*\* ≈", text_of(large, "hh_rlhf.md"))
    assert "- ≈: the interval includes zero" in text_of(large, "hh_rlhf.md")
    assert "≈" in text_of(large, "overall.md")
    found = {r["method"]: r["finding"]
             for r in csv.DictReader(text_of(large, "hh_rlhf.csv").splitlines())}  # fmt: skip
    assert found["another_seed"] == "no difference shown"
    assert found["prompting"] == "above"


def test_differences_stand_in_the_intervals_of_the_whole_family(large):
    """The table's interval is wider than one comparison's, and says how many it holds for."""
    row = next(r for r in csv.DictReader(text_of(large, "hh_rlhf.csv").splitlines())
               if r["method"] == "prompting")  # fmt: skip
    alone = float(row["difference_high"]) - float(row["difference_low"])
    assert float(row["joint_high"]) - float(row["joint_low"]) > 1.2 * alone
    assert row["family"] == "23"  # seven rows on four benchmarks less four references and a skip
    assert "all 23 differences" in text_of(large, "overall.md")


def test_every_judge_has_a_section_of_its_own(large):
    """Verdicts by kind, what is missing, its bounds and a p-value; no row for the reference."""
    text = text_of(large, "hh_rlhf.md")
    section = text[text.index("## Verdicts by testbed_pairwise") :].split("\n## ")[0]
    assert "| unsteered" not in section
    row = next(row for row in section.splitlines() if row.startswith("| prompting "))
    assert re.search(r"\| +\d+–\d+–\d+–\d+ \| +1 unparsed \| +0\.\d+ to 0\.\d+ \|", row)
    assert "win rate by" not in text[text.index("## Further") : text.index("## Verdicts")]
    assert "never held against labels; `make calibrate JUDGE=testbed_pairwise" in text


def test_a_calibration_file_is_cited_beside_the_win_rate(tmp_path):
    """Agreement, kappa and flips of the judge stand in the table, with the file's name."""
    results = copied(tmp_path)
    folder = results / "calibration" / "toy"
    folder.mkdir(parents=True)
    one = {"name": "pairs", "labels": "people", "kappa": 0.614,
           "agreement": {"value": 0.8312, "n": 77}, "flips": {"value": 0.09, "n": 70}}  # fmt: skip
    (folder / "toy_judge.json").write_text(json.dumps({"sets": [one]}), "utf-8")
    write_tables(results, "toy")
    said = "toy_judge: agrees with people on 83 % of 77 pairs, kappa 0.61, flips on 9 %"
    assert f"{said} (`calibration/toy/toy_judge.json`)" in text_of(results, "hh_rlhf.md")


def test_the_optimised_reward_is_named_and_never_bold(large):
    """Where the granted reward is the evaluation reward its header says so."""
    text = text_of(large, "hh_rlhf.md")
    further = text[text.index("## Further") : text.index("## Legend")]
    assert "| optimised reward |" in further
    assert "**" not in further
    assert "| reward |" not in further


def test_rows_stand_in_neutral_order(large):
    """Unsteered first, then by name, whatever the scores."""
    rows = list(csv.DictReader(text_of(large, "hh_rlhf.csv").splitlines()))
    labels = [row["method"] for row in rows]
    assert labels == ["unsteered", *sorted(set(labels) - {"unsteered"})]


def test_skipped_cells_print_their_reason(large):
    """The row says that it was skipped, a line below the grid says why."""
    reason = "needs preference pairs; none are granted"
    text = text_of(large, "mt_bench.md")
    assert re.search(r"\| recontrol .* skipped \|", text)
    assert f"- recontrol: {reason}" in text
    assert f"- recontrol on MT-Bench: {reason}" in text_of(large, "overall.md")
    assert reason in text_of(large, "mt_bench.tex")


def test_one_fit_is_said(large):
    """A row that was fitted once says so in its line."""
    assert re.search(r"\| recontrol .*\| one fit \|", text_of(large, "hh_rlhf.md"))


def test_main_tables_fit_a_page(large):
    """The first grid of a table is at most 160 characters wide."""
    for name in ("hh_rlhf.md", "mt_bench.md"):
        grid = text_of(large, name).split("## Further")[0].splitlines()
        assert max(len(row) for row in grid if row.startswith("|")) <= 160


def test_the_csv_has_every_number(large):
    """Traits, costs by model, strict win rates, p-values and counts stand in the CSV."""
    row = next(r for r in csv.DictReader(text_of(large, "hh_rlhf.csv").splitlines())
               if r["method"] == "prompting")  # fmt: skip
    for name in (
        "difference_low", "detectable", "joint_low", "finding", "p", "p_holm", "rank_best",
        "gold.helpful",
        "win_rate@testbed_pairwise_strict", "win_rate@testbed_pairwise_tie", "tokens_policy",
        "seconds_relative", "kl", "items", "protocol_hash",
    ):  # fmt: skip
        assert row[name] != "", name
    assert row["win_rate@testbed_pairwise_unparsed"] == "1"


def test_a_second_hash_is_a_table_of_its_own(tmp_path):
    """The other hash is named in a line, and its runs are in no row."""
    for digest, shift in (("a" * 10, 0.0), ("b" * 10, 5.0)):
        spec = run_spec("hh_rlhf", "unsteered", protocol_hash=digest)
        write_run(tmp_path, spec, {"gold": wave(COUNT, shift)}, prompts=COUNT)
    write_tables(tmp_path, "toy", "a" * 10)
    text = text_of(tmp_path, "hh_rlhf.md")
    assert "other hashes of this protocol have runs too (bbbbbbbbbb)" in text
    assert len(re.findall(r"^\| unsteered", text, re.M)) == 2


def test_tables_of_another_set_do_not_stay(tmp_path):
    """A benchmark that the new set lacks leaves with its figures; other files stay."""
    for digest, benchmarks in (("a" * 10, ("hh_rlhf", "mt_bench")), ("b" * 10, ("hh_rlhf",))):
        for benchmark in benchmarks:
            for method in ("unsteered", "prompting"):
                spec = run_spec(benchmark, method, protocol_hash=digest)
                write_run(tmp_path, spec, {"gold": wave(9, 0.0)}, prompts=9)
    write_tables(tmp_path, "toy", "a" * 10)
    (tmp_path / "tables" / "toy" / "notes.csv").write_text("mine")
    write_tables(tmp_path, "toy", "b" * 10)
    stems = {path.name.split(".")[0] for path in (tmp_path / "tables" / "toy").iterdir()}
    assert stems == {"overall", "cost", "hh_rlhf", "notes"}


def test_a_frontier_whose_answers_are_gone_leaves_with_all_its_files(tmp_path):
    """Tables that came with a checkout are written over where its base answers are not here."""
    for method in ("unsteered", "prompting"):
        write_run(tmp_path, run_spec("hh_rlhf", method), {"gold": wave(9, 0.0)}, prompts=9)
    out = tmp_path / "tables" / "toy"
    out.mkdir(parents=True)
    (out / "hh_rlhf.frontier.csv").write_text("benchmark,method,reward\n")
    (out / "hh_rlhf.frontier.curve.csv").write_text("benchmark,method,strength\n")
    for suffix in ("md", "tex", "png", "svg"):
        (out / f"hh_rlhf.frontier.{suffix}").write_text("of another day")
    write_tables(tmp_path, "toy")
    assert not list(out.glob("*.frontier.*"))
    assert (out / "hh_rlhf.csv").exists()


def test_every_figure_shown_is_there(large):
    """The pictures that a page refers to lie beside it."""
    for name in ("overall.md", "hh_rlhf.md"):
        files = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text_of(large, name))
        assert files
        assert all((large / "tables" / "toy" / file).exists() for file in files)


def test_nothing_to_print_is_an_error(tmp_path):
    """A protocol without finished runs raises one clear line."""
    with pytest.raises(PlumblineError, match="no finished run"):
        write_tables(tmp_path, "toy")


def test_degenerate_stores_make_tables(tmp_path):
    """One prompt, equal values, missing values and no headline all print."""
    write_run(tmp_path, run_spec("one", "unsteered"), {"gold": [1.0]}, prompts=1)
    write_run(tmp_path, run_spec("one", "prompting"), {"gold": [1.0]}, prompts=1)
    for method in ("unsteered", "prompting"):
        write_run(tmp_path, run_spec("equal", method), {"gold": [1.0] * 9}, prompts=9)
        write_run(tmp_path, run_spec("none", method), {"gold": [None] * 9}, prompts=9)
        write_run(tmp_path, run_spec("bare", method), {}, prompts=9)
        spec = run_spec("granted", method, headlines=["reward"])
        write_run(tmp_path, spec, {"reward": wave(9, 0.0)}, prompts=9)
    write_tables(tmp_path, "toy")
    assert "Fewer than 6 clusters: no interval is given" in text_of(tmp_path, "one.md")
    assert "0.000 [0.000, 0.000]" in text_of(tmp_path, "equal.md")
    assert "9 unparsed" in text_of(tmp_path, "none.md")
    assert "no row is compared with another" in text_of(tmp_path, "granted.md")


def test_foreign_words_do_no_harm(tmp_path):
    """A method's label and reasons full of markup leave every format whole."""
    nasty = "me|th$od_{x}^2 <b>\n*hi* `q` \u202e 漢字"
    for method in ("unsteered", nasty):
        spec = run_spec("hh_rlhf", method, stack=[{"name": "x", "settings": {}}])
        spec["kl"] = {"kind": "none", "bound": None, "reason": nasty}
        write_run(tmp_path, spec | {"title": nasty}, {"gold": wave(9, 0.0)}, prompts=9, pool=2)
    write_tables(tmp_path, "toy")
    grid = [row for row in text_of(tmp_path, "hh_rlhf.md").splitlines() if row.startswith("|")]
    assert len(grid) == 8
    assert "<b>" not in text_of(tmp_path, "hh_rlhf.md")


@pytest.mark.slow
def test_tables_and_figures_take_a_few_seconds(tmp_path):
    """Seven rows on four benchmarks of 256 prompts are written in ten seconds of CPU."""
    large_store(tmp_path, prompts=256)
    start = time.process_time()
    write_tables(tmp_path, "toy")
    assert time.process_time() - start < 10


# ----------------------------------------------------------------- one cell


def test_a_finished_cell_is_one_line(tmp_path):
    """Method, benchmark, headline, its own difference, items and seconds; the table's value."""
    results = copied(tmp_path)
    folders = {path.parent.parent.name: path.parent for path in results.glob("runs/*/hh_rlhf/*/*/done")}  # fmt: skip # noqa: E501
    summary = cell_summary(folders["best_of_n"], folders["unsteered"])
    assert "\n" not in summary
    table = (GOLDENS / "tables" / "hh_rlhf.md").read_text("utf-8")
    for part in ("hh_rlhf", "best_of_n(n=4)", "n=10", "to unsteered", " s"):
        assert part in summary
    value = re.search(r"(\S+) \[\S+ \S+\] to unsteered", summary)[1]
    assert f"**{value} [" in table
    alone = cell_summary(folders["unsteered"], None)
    assert "to unsteered" not in alone
    assert "gold" in alone
