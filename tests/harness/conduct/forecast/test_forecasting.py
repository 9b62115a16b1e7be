"""What a command would run: what is stored is known, what it would cost is predicted."""

import json
import shutil
from pathlib import Path

import pytest

from harness.conduct import runner, store
from harness.conduct.forecast import forecasting, foretelling, planned
from harness.conduct.protocol import load
from harness.conduct.setting import Setting
from harness.report.rates import ANSWER, FIT

METHODS = "best_of_n(n=3),{counted}"


def order(tiny, methods, **words):
    """Read a command."""
    return runner.order(methods, tiny, **words)


@pytest.fixture(scope="module")
def finished(tiny, counted, tmp_path_factory):
    """Results of a search and of a method that learns, on the first six prompts."""
    results = tmp_path_factory.mktemp("results")
    asked = order(tiny, METHODS.format(counted=counted), limit=6)
    runner.bench(asked, store.Store(results), say=lambda _: None, device="cpu", tables=False)
    return results


def plan(tiny, results, methods, **words):
    """List the cells and fits of a command."""
    asked = order(tiny, methods, **words)
    return planned.plan(Setting(asked.protocol, device="cpu"), asked, store.Store(results))


def test_what_is_stored_is_known_without_a_model(tiny, counted, finished, monkeypatch):
    """Every cell and the fit are found finished, and no model was loaded to find them."""
    monkeypatch.setattr(Setting, "model", property(lambda _: pytest.fail("a model was loaded")))
    asked = order(tiny, METHODS.format(counted=counted), limit=6)
    found = forecasting.forecast(asked, store.Store(finished), say=pytest.fail, device="cpu")
    assert [line.left for line in found.lines] == [0] * 7
    assert {line.kind for line in found.lines} == {ANSWER, FIT}
    assert "6 cells: 0 to run, 6 finished; 1 fits: 0 to run, 1 finished" in "\n".join(
        foretelling.told(found)
    )


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ("best_of_n(n=4)", {"limit": 6}),
        ("best_of_n(n=3)", {"limit": 5}),
        ("best_of_n(n=3)", {"limit": 6, "seeds": "1"}),
    ],
)
def test_another_row_is_not_finished(tiny, finished, methods, words):
    """Another field, another limit, another seed: all of it is still to be run."""
    cells = [line for line in plan(tiny, finished, methods, **words) if line.row == methods]
    assert cells
    assert all(line.done == 0 and line.left == line.count for line in cells)


def test_answers_are_counted_by_turns(tiny, finished):
    """Two-turn prompts make two answers each."""
    lines = plan(tiny, finished, "always_refuse", limit=4)
    counts = {line.benchmark: line.count for line in lines if line.row == "unsteered"}
    assert counts == {"hh_rlhf": 4, "mt_bench": 8}


def test_a_run_that_was_killed_is_taken_up(tiny, finished, tmp_path):
    """What it has answered is not counted again."""
    results = tmp_path / "results"
    shutil.copytree(finished, results)
    (folder,) = results.glob("runs/*/hh_rlhf/best_of_n/*")
    (folder / "done").unlink()
    lines = (folder / "responses.jsonl").read_text().splitlines(keepends=True)
    (folder / "responses.jsonl").write_text("".join(lines[:2]))
    found = plan(tiny, results, "best_of_n(n=3)", limit=6)
    (cell,) = [one for one in found if (one.benchmark, one.row) == ("hh_rlhf", "best_of_n(n=3)")]
    assert (cell.done, cell.left) == (2, 4)


def test_other_prompts_or_other_code_make_another_run(tiny, finished, tmp_path):
    """A run over changed prompts, and one by an older version of a method, do not count."""
    results = tmp_path / "results"
    shutil.copytree(finished, results)
    (folder,) = results.glob("runs/*/hh_rlhf/best_of_n/*")
    text = (folder / "prompts.jsonl").read_text()
    (folder / "prompts.jsonl").write_text(text.replace('"content":"', '"content":"x', 1))
    (other,) = results.glob("runs/*/mt_bench/best_of_n/*")
    spec = json.loads((other / "spec.json").read_text())
    spec["stack"][0]["code"] = "0000000000"
    (other / "spec.json").write_text(json.dumps(spec))
    found = plan(tiny, results, "best_of_n(n=3)", limit=6)
    assert [one.left for one in found if one.row == "best_of_n(n=3)"] == [6, 12]


def test_a_row_that_does_not_apply_costs_nothing(tiny, finished):
    """Its line says why; nothing of it is predicted."""
    lines = [one for one in plan(tiny, finished, "prompting") if one.row == "prompting"]
    assert all("does not grant" in one.skipped and one.left == 0 for one in lines)


def test_no_world_is_built_for_it(tiny, tmp_path, monkeypatch):
    """Where the world is not built, nothing is tried, and the forecast says so."""
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path / "cache"))
    asked = order(tiny, "best_of_n(n=3)")
    found = forecasting.forecast(asked, store.Store(tmp_path / "none"), device="cpu")
    text = "\n".join(foretelling.told(found))
    assert not (tmp_path / "cache").exists()
    assert "the world is not built yet" in text
    assert "at least" in text
    assert not (tmp_path / "none").exists()


def test_the_prediction_adds_up(tiny, finished):
    """Rates of this folder's own runs times what is left, the start and the tables beside it."""
    asked = order(tiny, "best_of_n(n=3)", limit=7, benchmarks="hh_rlhf")
    found = forecasting.forecast(asked, store.Store(finished), device="cpu")
    assert [line.left for line in found.lines] == [7, 7]
    (folder,) = finished.glob("runs/*/hh_rlhf/best_of_n/*")
    spent = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    tokens = sum(line["tokens"].get("policy", 0) for line in spent)
    assert found.guesses[1].basis == "measured"
    assert found.cost(1).by_role()["policy"] == pytest.approx(7 * tokens / 6)
    beside = forecasting.START + 2 * (forecasting.CELL + forecasting.TABLES)
    assert found.seconds == pytest.approx(found.pace * beside + found.total.total)


def test_a_row_never_run_is_tried(tiny, finished):
    """A row that learns nothing is answered on a few prompts, and nothing of it is stored."""
    before = sorted(finished.rglob("*"))
    said = []
    asked = order(tiny, "best_of_n(n=5)", limit=6, benchmarks="hh_rlhf")
    found = forecasting.forecast(asked, store.Store(finished), say=said.append, device="cpu")
    assert "trying best_of_n(n=5) on a few prompts of hh_rlhf" in said
    assert found.guesses[1].basis == "measured"
    reward = found.cost(1).tokens["decode.reward"]
    assert reward > 0
    assert sorted(finished.rglob("*")) == before


def test_a_time_is_said_as_people_do():
    """Seconds, minutes, hours; tokens in thousands, millions and more."""
    assert [foretelling.duration(s) for s in (0.4, 89, 600, 7500)] == [
        "0 s", "89 s", "10 min", "2 h 5 min",
    ]  # fmt: skip
    assert [foretelling.amount(n) for n in (12, 1500, 2.5e6, 3e9)] == [
        "12", "1.5 k", "2.5 M", "3.0 G",
    ]  # fmt: skip


def test_the_packaged_rates_cover_the_default_protocol():
    """Every benchmark of the testbed has the reference, and no rate is of no time."""
    table = Path("benchmarks/protocols/testbed.rates.csv")
    from harness.conduct.plugins import protocol_file
    from harness.report.rate_sources import from_table

    file = protocol_file("testbed")
    rates = from_table(file.with_name(table.name))
    for benchmark in load(file).sections.data:
        assert rates.find(ANSWER, benchmark, "unsteered").seconds["decode"] > 0
    assert all(line.rate.total > 0 for line in rates.lines.values())


def test_a_busy_machine_is_told_apart_from_a_slow_one():
    """The prediction is for a free machine; what the waiting would add is said beside it."""
    busy = forecasting.Forecast((), (), (), 1.0, 3.0)
    assert list(foretelling.told(busy))[-1] == (
        "predicted: tokens none; 12 s, or 36 s if the machine stays as busy as now"
    )
    assert list(foretelling.told(forecasting.Forecast((), ())))[-1] == (
        "predicted: tokens none; 12 s"
    )
