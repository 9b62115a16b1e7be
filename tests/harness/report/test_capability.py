"""The capability table: its numbers by hand, its words, its place in the overall table."""

import csv
import math

import pytest
from toystore import HASH, golden_store

from harness.conduct import store
from harness.ledger import Ledger
from harness.report.capability import read_taxes
from harness.report.capability_page import summary, write_tables
from harness.report.frames import REFERENCE
from harness.report.tables import write_tables as write_all

COUNT = 10


def evaluated(results, method, values, task="arithmetic", measure="acc", better=True, **changes):
    """Write one finished row on one task, as ``tax`` leaves it."""
    spec = {
        "protocol": "toy",
        "protocol_hash": HASH,
        "world": None,
        "about": "Made-up numbers.",
        "task": task,
        "items": {task: "0123456789"},
        "chat": True,
        "fewshot": None,
        "limit": None,
        "lm_eval": "0.4.13",
        "method": method,
        "stack": [],
        "seed": 0,
        "fit_seeds": [],
        "fits": [None],
        "marks": [],
    } | changes
    name = method.partition("(")[0]
    folder = results / "capability" / f"toy-{HASH}" / task / name / store.key(spec)
    store.write_json(folder / "spec.json", spec)
    lines = [
        {"task": task, "doc": i, "filter": "none", "values": {measure: value}}
        for i, value in enumerate(values)
    ]
    store.append(folder / "items.jsonl", lines)
    names = [f"{measure},none"]
    store.write_json(folder / "measures.json", {"measures": names, "higher": {measure: better}})
    whole = {task: {f"{measure},none": sum(values) / len(values)}}
    store.write_json(folder / "lm_eval.json", whole)
    store.write_json(folder / "notes.json", {"contexts cut": 2} if method == "steered" else {})
    ledger = Ledger(seconds={"evaluate": 1.5}).to_json()
    store.write_json(folder / "ledger.json", ledger)
    store.mark_done(folder)
    return folder


@pytest.fixture
def results(tmp_path):
    """A folder with three rows on one task and one on another, a skipped row among them."""
    evaluated(tmp_path, REFERENCE, [1.0] * 8 + [0.0] * 2)
    evaluated(tmp_path, "steered", [0.0] * 6 + [1.0] * 4)
    evaluated(tmp_path, REFERENCE, [0.5] * COUNT, "reading", "bits_per_byte", False)
    evaluated(tmp_path, "steered", [0.75] * COUNT, "reading", "bits_per_byte", False)
    home = tmp_path / "capability" / f"toy-{HASH}" / "reading" / "best_of_n"
    note = {"method": "best_of_n(n=4)", "task": "reading", "reason": "no density | at all"}
    store.write_json(home / "skipped.0123456789.json", note)
    return tmp_path


def texts(results):
    """Write the tables; give Markdown, CSV records and LaTeX."""
    paths = {path.suffix: path for path in write_tables(results, "toy", HASH)}
    with paths[".csv"].open() as file:
        records = list(csv.DictReader(file))
    return paths[".md"].read_text(), records, paths[".tex"].read_text()


def test_a_change_is_the_mean_of_paired_differences(results):
    """Level, change and interval come from the items, item against item."""
    reading, arithmetic = sorted(read_taxes(results, f"toy-{HASH}"), key=lambda t: t.title)[::-1]
    row = arithmetic.row("steered")
    assert row.level["acc,none"].value == pytest.approx(0.4)
    change = row.change["acc,none"]
    assert change.value == pytest.approx(-0.4)
    assert change.low < -0.4 < change.high
    assert change.n == COUNT
    exact = reading.row("steered").change["bits_per_byte,none"]
    assert (exact.value, exact.low, exact.high) == pytest.approx((0.25, 0.25, 0.25))
    assert arithmetic.row(REFERENCE).change == {}


def test_the_page_says_change_direction_and_reasons(results):
    """The column, the arrows, the skipped row and what was left out can be read."""
    page, records, tex = texts(results)
    assert "capability change against unsteered" in page
    assert "arithmetic: acc ↑" in page
    assert "reading: bits per byte (mean over texts) ↓" in page
    assert "**+0.250 [+0.250, +0.250]**" in page
    assert "- best_of_n(n=4) on reading: no density \\| at all" in page
    assert "- arithmetic, steered: 2 contexts cut" in page
    assert r"$\uparrow$" in tex
    (skipped,) = (r for r in records if r["method"] == "best_of_n(n=4)")
    assert skipped["note"] == "skipped: no density | at all"
    assert skipped["change"] == skipped["value"] == ""
    (steered,) = (r for r in records if (r["method"], r["task"]) == ("steered", "arithmetic"))
    assert float(steered["change"]) == pytest.approx(-0.4)
    assert float(steered["lm_eval_figure"]) == pytest.approx(0.4)
    assert steered["higher_is_better"] == "yes"


def test_the_same_store_writes_the_same_bytes(results):
    """Tables are functions of what is stored."""
    first = [path.read_bytes() for path in write_tables(results, "toy", HASH)]
    assert [path.read_bytes() for path in write_tables(results, "toy", HASH)] == first


def test_the_summary_line_compares_with_the_reference(results):
    """A finished row is one line: task, label, level, change, items, seconds."""
    (folder,) = (p.parent for p in results.glob("capability/*/arithmetic/steered/*/spec.json"))
    line = summary(folder)
    assert line.startswith("arithmetic  steered  acc 0.40 [")
    assert " to unsteered  n=10  1.5 s" in line
    (base,) = (p.parent for p in results.glob("capability/*/arithmetic/unsteered/*/spec.json"))
    assert "to unsteered" not in summary(base)


def test_three_fits_make_one_row(tmp_path):
    """Fits of one row are averaged, and their spread enters the interval."""
    evaluated(tmp_path, REFERENCE, [0.0, 1.0] * 5)
    for seed, shift in enumerate((0.0, 0.2, 0.4)):
        values = [shift, 1.0 - shift] * 5
        evaluated(tmp_path, "learned", values, fit_seeds=[seed], fits=[f"fit{seed}"])
    (found,) = read_taxes(tmp_path, f"toy-{HASH}")
    row = found.row("learned")
    assert len(row.runs) == 3
    assert row.change["acc,none"].value == pytest.approx(0.0)
    assert not math.isnan(row.change["acc,none"].low)


def test_capability_stands_beside_the_methods_of_the_overall_table(tmp_path):
    """Rows of the overall table get a column per task; a limited trial does not count."""
    golden_store(tmp_path)
    evaluated(tmp_path, REFERENCE, [1.0] * COUNT)
    evaluated(tmp_path, "recontrol", [1.0, 0.0] * 5)
    evaluated(tmp_path, REFERENCE, [1.0] * 5, limit=5)
    written = {path.name: path for path in write_all(tmp_path, "toy")}
    overall = written["overall.md"].read_text()
    header = next(line for line in overall.splitlines() if line.startswith("| method"))
    assert header.count("capability, arithmetic: acc ↑") == 1
    assert "first 5" not in header
    lines = overall.splitlines()
    assert "not run" in next(line for line in lines if line.startswith("| best_of_n(n=4)"))
    assert "capability.md" in written
    with written["overall.csv"].open() as file:
        (record,) = (r for r in csv.DictReader(file) if r["method"] == "recontrol")
    assert float(record["arithmetic_capability_change"]) == pytest.approx(-0.5)
