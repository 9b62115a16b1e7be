import json
import os

import numpy as np
import pytest
from toystore import run_spec, write_run, write_skip

from harness.errors import PlumblineError
from harness.report.frames import fit_seconds, read_cell, read_pools, read_run
from harness.report.terms import choose_terms

CELL = "runs/toy-7c0d1e44b2/hh_rlhf"


def rows(results):
    """Read the rows of the toy benchmark by label."""
    return {row.label: row for row in read_cell(results / CELL).rows}


def test_seeds_of_one_stack_are_one_row(tmp_path):
    """Runs that differ only in their seed are averaged prompt by prompt."""
    for seed, values in enumerate([[1.0, 2.0, None], [3.0, None, None]]):
        spec = run_spec("hh_rlhf", "unsteered", seed=seed)
        write_run(tmp_path, spec, {"gold": values}, prompts=3)
    row = rows(tmp_path)["unsteered"]
    assert len(row.runs) == 2
    np.testing.assert_array_equal(row.values("gold"), [[2.0, 2.0, np.nan]])
    assert row.outcomes("gold") == {"ok": 3, "unparsed": 3}
    assert row.responses == 6


def test_fits_are_kept_apart(tmp_path):
    """Each fit has its own line of values, seeds averaged within it."""
    for fit, seed, value in (("aa", 0, 1.0), ("aa", 1, 3.0), ("bb", 0, 7.0)):
        spec = run_spec("hh_rlhf", "recontrol", seed=seed, fits=[fit], fit_seeds=[len(fit)])
        write_run(tmp_path, spec, {"gold": [value]}, prompts=1)
    row = rows(tmp_path)["recontrol"]
    assert row.fits == 2
    np.testing.assert_array_equal(row.values("gold"), [[2.0], [7.0]])


def test_parts_are_read_where_there_is_a_value(tmp_path):
    """A sub-score of a response without a value is missing too."""
    values = [{"value": 1.0, "parts": {"polite": 4.0}}, {"value": None, "parts": {"polite": 9.0}}]
    write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": values}, prompts=2)
    row = rows(tmp_path)["unsteered"]
    np.testing.assert_array_equal(row.values("gold", "polite"), [[4.0, np.nan]])
    assert row.parts("gold") == ["polite"]


def test_a_trial_on_few_prompts_gives_way_to_the_whole(tmp_path):
    """A limited run is left out, and counted, once a full run of the row exists."""
    limited = run_spec("hh_rlhf", "prompting", limit=2, marks=["limited"])
    write_run(tmp_path, limited, {"gold": [1.0, 2.0]}, prompts=2)
    assert rows(tmp_path)["prompting"].marks == ("limited",)
    write_run(tmp_path, run_spec("hh_rlhf", "prompting"), {"gold": [1.0] * 4}, prompts=4)
    cell = read_cell(tmp_path / CELL)
    assert [len(row.answered) for row in cell.rows] == [4]
    assert cell.superseded == 1


def test_of_two_versions_the_newer_counts(tmp_path):
    """A run under an older declaration of the benchmark does not double its row."""
    old = write_run(tmp_path, run_spec("hh_rlhf", "prompting", cluster="prompt"), {"gold": [1.0] * 2}, prompts=2)  # fmt: skip # noqa: E501
    write_run(tmp_path, run_spec("hh_rlhf", "prompting"), {"gold": [5.0] * 2}, prompts=2)
    os.utime(old / "done", (1, 1))
    assert rows(tmp_path)["prompting"].values("gold").tolist() == [[5.0, 5.0]]


def test_unfinished_runs_are_counted_and_left_out(tmp_path):
    """Without ``done`` a run is in no table."""
    write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": [1.0]}, prompts=1)
    write_run(tmp_path, run_spec("hh_rlhf", "prompting"), {"gold": [1.0]}, prompts=1, done=False)
    cell = read_cell(tmp_path / CELL)
    assert [row.label for row in cell.rows] == ["unsteered"]
    assert cell.unfinished == 1


def test_a_skipped_stack_is_a_row_with_its_reason(tmp_path):
    """What does not apply is listed; a later run takes its place."""
    write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": [1.0]}, prompts=1)
    write_skip(tmp_path, "hh_rlhf", "dpo", "no pairs")
    assert rows(tmp_path)["dpo"].skipped == "no pairs"
    write_run(tmp_path, run_spec("hh_rlhf", "dpo"), {"gold": [1.0]}, prompts=1)
    assert rows(tmp_path)["dpo"].skipped == ""


def test_two_hashes_in_one_folder_are_refused(tmp_path):
    """A table never mixes terms."""
    write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": [1.0]}, prompts=1)
    path = write_run(tmp_path, run_spec("hh_rlhf", "dpo"), {"gold": [1.0]}, prompts=1)
    spec = json.loads((path / "spec.json").read_text())
    (path / "spec.json").write_text(json.dumps(spec | {"protocol_hash": "0" * 10}))
    with pytest.raises(PlumblineError, match="several protocol hashes"):
        read_cell(tmp_path / CELL)


def test_a_spec_without_its_fields_is_named(tmp_path):
    """The error names the file and the field."""
    path = write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": [1.0]}, prompts=1)
    (path / "spec.json").write_text('{"method": "unsteered"}')
    with pytest.raises(PlumblineError, match=r"spec\.json has no field 'benchmark'"):
        read_run(path)


def test_a_broken_line_is_named(tmp_path):
    """The error names the file and the line."""
    path = write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": [1.0]}, prompts=1)
    (path / "scores.gold.jsonl").write_text("{oops\n")
    with pytest.raises(PlumblineError, match=r"scores\.gold\.jsonl.*line 1"):
        read_run(path)


def test_pools_are_read_with_and_without_gold(tmp_path):
    """A pool line without a score is no candidate; gold counts only where all have it."""
    path = write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"gold": [1.0]}, prompts=1, pool=3)
    pools = read_pools(read_run(path))
    assert [len(pool.scores) for pool in pools] == [3]
    assert pools[0].gold is not None
    assert pools[0].cluster == "task-0"
    lines = (path / "pool.jsonl").read_text().splitlines()
    first = {k: v for k, v in json.loads(lines[0]).items() if k != "gold"}
    last = json.loads(lines[2]) | {"score": None}
    (path / "pool.jsonl").write_text("".join(json.dumps(x) + "\n" for x in [first, json.loads(lines[1]), last]))  # fmt: skip # noqa: E501
    pool = read_pools(read_run(path))[0]
    assert (len(pool.scores), pool.gold) == (2, None)


def test_a_fit_costs_its_seconds_once(tmp_path):
    """Two runs that share a fit count its seconds once."""
    for seed in (0, 1):
        spec = run_spec("hh_rlhf", "recontrol", seed=seed, fits=["aa"])
        write_run(tmp_path, spec, {"gold": [1.0]}, prompts=1)
    fit = tmp_path / "fits" / "toy-7c0d1e44b2" / "recontrol" / "aa"
    fit.mkdir(parents=True)
    line = {"phase": "fit", "tokens": {}, "forwards": {}, "seconds": {"fit": 12.5}, "peak": 0}
    (fit / "ledger.jsonl").write_text(json.dumps(line) + "\n")
    assert fit_seconds(tmp_path, rows(tmp_path)["recontrol"]) == 12.5


# ------------------------------------------------------------ choosing a hash


def stamped(results, digest, when, done=True):
    """Write one run under a hash, finished at a time."""
    spec = run_spec("hh_rlhf", "unsteered", protocol_hash=digest)
    path = write_run(results, spec, {"gold": [1.0]}, prompts=1, done=done)
    if done:
        os.utime(path / "done", (when, when))
    return path


def test_the_newest_complete_hash_is_shown(tmp_path):
    """A newer hash with an unfinished run gives way to the newest complete one."""
    stamped(tmp_path, "a" * 10, 100)
    stamped(tmp_path, "b" * 10, 200)
    stamped(tmp_path, "c" * 10, 300)
    spec = run_spec("hh_rlhf", "prompting", protocol_hash="c" * 10)
    write_run(tmp_path, spec, {"gold": [1.0]}, prompts=1, done=False)
    terms = choose_terms(tmp_path, "toy")
    assert (terms.hash, terms.others, terms.complete) == ("b" * 10, ("a" * 10, "c" * 10), True)
    assert choose_terms(tmp_path, "toy", "c" * 10).hash == "c" * 10


def test_a_hash_or_protocol_without_runs_is_an_error(tmp_path):
    """The error says what there is, or how to make some."""
    with pytest.raises(PlumblineError, match="make bench"):
        choose_terms(tmp_path, "toy")
    stamped(tmp_path, "a" * 10, 100)
    with pytest.raises(PlumblineError, match="it has aaaaaaaaaa"):
        choose_terms(tmp_path, "toy", "b" * 10)
    with pytest.raises(PlumblineError, match="no finished run of protocol 'to'"):
        choose_terms(tmp_path, "to")
