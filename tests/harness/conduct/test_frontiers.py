"""A frontier from base answers to figure on the world planted: kept, gone on with, refused."""

import csv
from pathlib import Path

import numpy as np
import pytest

from harness.conduct import base_answers, frontiers, runner, store
from harness.conduct.protocol import load
from harness.conduct.questions import ask
from harness.conduct.setting import Setting
from harness.errors import PlumblineError
from harness.report.frontier.base_answers import read_base
from harness.report.tables import write_tables


@pytest.fixture(scope="module")
def setting(tiny):
    """Give the small protocol with its models."""
    return Setting(load(Path(tiny)), device="cpu")


def lines(folder):
    """Give the stored answers by prompt and block."""
    read = store.read_lines(folder / "answers.jsonl")
    assert len({(line["prompt"], line["block"]) for line in read}) == len(read)
    return {(line["prompt"], line["block"]): line for line in read}


def test_answers_are_kept_and_gone_on_with(setting, tmp_path):
    """More prompts and more answers are added to what is there; a torn line is drawn again."""
    results, asked = store.Store(tmp_path), ask(setting, "hh_rlhf")
    folder = base_answers.draw(setting, asked.first(1), results, 16)
    first = lines(folder)
    assert len(first) == 1
    assert base_answers.draw(setting, asked.first(2), results, 20) == folder  # two blocks each
    more = lines(folder)
    assert len(more) == 4
    assert first.items() <= more.items()
    assert len({tuple(line["texts"]) for line in more.values()}) == 4  # each block has its luck
    path = folder / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    base_answers.draw(setting, asked.first(2), results, 32)
    assert lines(folder) == more
    before = path.stat().st_mtime_ns
    base_answers.draw(setting, asked.first(2), results, 32)
    assert path.stat().st_mtime_ns == before
    base = read_base(tmp_path, setting.terms, "hh_rlhf")
    assert base.scorers == ["reward", "gold"]
    assert base.drawn["gold"].shape == (2, 32)
    assert np.exp(base.log_p).sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    base_answers.draw(setting, asked.first(1), results, 16)
    assert read_base(tmp_path, setting.terms, "hh_rlhf").drawn["gold"].shape == (1, 16)


def test_scores_are_those_that_rows_get(setting, tmp_path):
    """A stored answer's rewards are the scorers' own readings of it."""
    asked = ask(setting, "hh_rlhf").first(1)
    folder = base_answers.draw(setting, asked, store.Store(tmp_path), 16)
    [line] = lines(folder).values()
    chat = asked.prompts[0].chat
    assert line["scores"]["gold"] == [setting.gold(chat, t)["gold"] for t in line["texts"]]
    assert line["scores"]["reward"] == pytest.approx(
        setting.evaluation.score([chat] * 16, line["texts"]), abs=1e-5
    )


def test_a_frontier_from_answers_to_figure(tiny, tmp_path):
    """Rows are run, held against the exact frontier, drawn; tables writes the same page again."""
    asked = runner.order("best_of_n(n=2),best_of_n(n=4)", tiny, benchmarks="hh_rlhf", limit=2)
    said = []
    written, failures = frontiers.run(
        asked, store.Store(tmp_path), 32, say=said.append, rows=True, device="cpu"
    )
    assert failures == []
    assert [p.name for p in written] == [
        f"hh_rlhf.frontier.{end}" for end in ("md", "csv", "tex", "curve.csv", "png", "svg")
    ]
    rows = list(csv.DictReader(written[1].read_text().splitlines()))
    assert {row["reward"] for row in rows} == {"reward", "gold"}
    kinds = {row["method"]: (row["kl_kind"], row["gap_is"], row["exact"]) for row in rows}
    assert kinds["unsteered"] == ("exact", "is", "True")
    assert kinds["best_of_n(n=2)"] == ("bound", "at most", "True")
    text = written[0].read_text()
    assert "best_of_n over n" in text
    assert "The estimate from 32 base answers against the exact frontier" in text
    assert any("estimate against exact" in line for line in said)
    before = {path: path.read_bytes() for path in written}
    for path in written:
        path.unlink()
    again = write_tables(tmp_path, asked.protocol.name)
    assert set(written) <= set(again)
    assert {path: path.read_bytes() for path in written} == before
    assert "](hh_rlhf.frontier.png)" in written[0].with_name("hh_rlhf.md").read_text()


def test_a_row_without_kl_is_named(tiny, spoken, tmp_path):
    """Asked for, a search over an already steered model is shown with a dash, and said so."""
    asked = runner.order(f"{spoken}+best_of_n(n=2)", tiny, benchmarks="hh_rlhf", limit=2)
    written, failures = frontiers.run(
        asked, store.Store(tmp_path), 16, say=lambda line: None, rows=True, device="cpu"
    )
    [failure] = failures
    assert "+best_of_n(n=2) has no KL of its own and no bound, so it has no gap" in failure
    rows = list(csv.DictReader(written[1].read_text().splitlines()))
    assert any(row["kl_kind"] == "none" and row["gap"] == "" for row in rows)


def test_rows_over_other_prompts_are_left_out_and_said(tiny, tmp_path):
    """Where no row answered the frontier's prompts, a line says so and the page has none."""
    results = store.Store(tmp_path)
    runner.bench(
        runner.order("unsteered", tiny, benchmarks="hh_rlhf", limit=1),
        results, say=lambda line: None, device="cpu", tables=False,
    )  # fmt: skip
    asked = runner.order("unsteered", tiny, benchmarks="hh_rlhf", limit=2)
    written, failures = frontiers.run(asked, results, 16, say=lambda line: None, device="cpu")
    [failure] = failures
    assert "it answered 1 of the frontier's 2 prompts" in failure
    assert "Not held against this frontier" in written[0].read_text()


def test_what_has_no_reward_has_no_frontier(setting, tmp_path, monkeypatch):
    """Too few samples, and a benchmark whose scorers know no reward, are refused in one line."""
    asked, results = ask(setting, "hh_rlhf").first(1), store.Store(tmp_path)
    with pytest.raises(PlumblineError, match="SAMPLES is 15"):
        base_answers.draw(setting, asked, results, 15)
    monkeypatch.setattr(type(asked.benchmark), "scorers", ("length", "diversity"))
    with pytest.raises(PlumblineError, match=r"has no reward.*its scorers are length, diversity"):
        base_answers.draw(setting, asked, results, 16)
    assert not (tmp_path / "frontiers").exists()
