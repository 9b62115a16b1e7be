"""Rows held against a frontier: gaps, sides, curves, areas, and the page they are written on."""

import csv
import json
import math

import numpy as np
import pytest
from toystore import HASH, run_spec, write_run

from harness.conduct import store
from harness.errors import PlumblineError
from harness.report.frames import read_cell
from harness.report.frontier.base_answers import read_base
from harness.report.frontier.estimator import Frontier, divergence_bound
from harness.report.frontier.gaps import gaps, optimal
from harness.report.frontier.page import sentences, write, write_frontier

TERMS, COUNT, SAMPLES = f"toy-{HASH}", 12, 64
IDS = [f"hh_rlhf-{i:03d}" for i in range(COUNT)]


def asked(name):
    """Give the digest of a toy prompt's conversation."""
    return store.digest([{"role": "user", "content": f"question {name}"}])


def write_base(results, *, count=COUNT, missing=0):
    """Store base answers with made-up rewards; gold is the reward and some noise."""
    folder = results / "frontiers" / TERMS / "hh_rlhf" / "0123456789"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    spec = {
        "benchmark": "hh_rlhf", "title": "HH-RLHF", "about": "A toy.", "optimised": True,
        "protocol_hash": HASH, "scorers": {"gold": "x", "reward": "x"},
    }  # fmt: skip
    store.write_json(folder / "spec.json", spec)
    lines = []
    for name in IDS[:count]:
        for block in range(SAMPLES // 16):
            reward = rng.standard_normal(16).round(3)
            scores = {
                "gold": (reward + rng.standard_normal(16)).tolist(),
                "reward": reward.tolist(),
            }
            line = {"prompt": name, "asked": asked(name), "block": block, "texts": ["…"] * 16}
            lines.append(line | {"scores": scores})
    text = "".join(json.dumps(line) + "\n" for line in lines[: len(lines) - missing])
    (folder / "answers.jsonl").write_text(text)
    prompts = [[name, asked(name), f"task-{i}"] for i, name in enumerate(IDS[:count])]
    store.write_json(folder / "asked.json", {"samples": SAMPLES, "prompts": prompts})


def bound(nats, reason=""):
    """Give what a spec says of a KL that is only bounded."""
    return {"kind": "bound", "bound": nats, "reason": reason}


@pytest.fixture
def found(tmp_path):
    """Give a store of base answers and rows, read and held against each other."""
    write_base(tmp_path)
    for label, kl, reward, changes in (
        ("unsteered", 0.0, 0.0, {}),
        ("toy(n=2)", 0.5, 0.6, {"stack": [{"name": "toy", "settings": {"n": 2, "k": "a"}}]}),
        ("toy(n=4)", 1.0, 0.9, {"stack": [{"name": "toy", "settings": {"n": 4, "k": "a"}}]}),
        ("toy(n=9)", 9.0, 1.5, {"stack": [{"name": "toy", "settings": {"n": 9, "k": "a"}}]}),
        ("other(k=b)", 0.5, 0.1, {"stack": [{"name": "toy", "settings": {"n": 2, "k": "b"}}]}),
        ("search", None, 0.7, {"kl": bound(0.8)}),
        ("wide", None, 0.7, {"kl": bound(6.0)}),
        ("cool", None, 0.7, {"kl": bound(0.8, "relative to the candidates' own distribution")}),
    ):
        wiggle = [0.1 * (-1) ** i for i in range(COUNT)]
        scores = {
            "reward": [reward + w for w in wiggle],
            "gold": [0.5 * reward + w for w in wiggle],
        }
        if kl is not None:
            scores["kl"] = [kl + w * kl for w in wiggle]
        write_run(tmp_path, run_spec("hh_rlhf", label, **changes), scores)
    cell = read_cell(tmp_path / "runs" / TERMS / "hh_rlhf")
    return gaps(read_base(tmp_path, TERMS, "hh_rlhf"), cell)


def point(found, label, scorer="reward"):
    """Give a row's point."""
    return next(p for p in found.points[scorer] if p.row.label == label)


def test_a_gap_is_the_frontier_at_the_rows_kl_less_its_reward(found):
    """At the row's own mean KL, in value; its interval comes from whole prompts."""
    frontier = found.base.estimated["reward"]
    one = point(found, "toy(n=2)")
    assert (one.kl.value, one.kind, one.side) == (pytest.approx(0.5), "exact", "is")
    assert one.gap.value == pytest.approx(frontier.best(0.5).value - 0.6)
    assert one.best == pytest.approx(frontier.best(0.5).value)
    assert one.gap.low < one.gap.value < one.gap.high
    assert one.gap.clusters == COUNT
    assert point(found, "unsteered").gap.value == pytest.approx(frontier.best(0.0).value)
    gold = point(found, "toy(n=2)", "gold")
    assert gold.gap.value == pytest.approx(found.base.estimated["gold"].best(0.5).value - 0.3)


def test_a_gap_says_on_which_side_it_is_known(found):
    """Beyond the samples at least, under a bound at most; neither, where both hold."""
    far = point(found, "toy(n=9)")
    assert far.side == "at least"
    assert far.gap.value == pytest.approx(found.base.estimated["reward"].best(9.0).value - 1.5)
    assert point(found, "search").side == "at most"
    assert point(found, "search").kl.value == 0.8
    wide, cool = point(found, "wide"), point(found, "cool")
    assert (wide.side, wide.kind, cool.kind) == ("unknown", "bound", "none")
    assert math.isnan(wide.gap.value)
    assert math.isnan(cool.kl.value)
    assert found.unknown(["cool", "wide"]) == ["cool"]


def test_rows_that_differ_in_one_number_are_a_curve(found):
    """Two or more values of one number; another setting, or none in common, is no curve."""
    [curve] = found.curves
    assert curve.name == "toy over n"
    assert curve.values == (2.0, 4.0, 9.0)
    assert curve.labels == ("toy(n=2)", "toy(n=4)", "toy(n=9)")


def test_worth_and_area_are_read_in_steps(found):
    """At k nats the best point of KL at most k; the area is that of the steps, as a share."""
    [curve] = found.curves
    assert math.isnan(found.worth("reward", curve.labels, 0.4))
    assert found.worth("reward", curve.labels, 2.0) == pytest.approx(0.9)
    assert found.worth("reward", curve.labels, 9.5) == pytest.approx(1.5)
    base = found.base.estimated["reward"]
    floor = base.best(0.0).value
    kl, reward = optimal(base, 8.0)
    whole = ((reward[1:] + reward[:-1]) / 2 - floor) @ np.diff(kl)
    steps = 0.5 * (0.6 - floor) + 7.0 * (0.9 - floor)
    assert found.hypervolume("reward", curve.labels) == pytest.approx(steps / whole)
    assert found.hypervolume("reward", ["toy(n=9)"]) == 0.0
    assert math.isnan(found.hypervolume("reward", ["cool"]))


def test_the_known_optimum_rises_by_steps_beyond_the_samples(found):
    """From KL 0 to the end it never falls, and ends at best of all samples."""
    frontier = found.base.estimated["reward"]
    kl, reward = optimal(frontier, 8.0)
    assert (kl[0], kl[-1]) == (0.0, 8.0)
    assert (np.diff(kl) >= 0).all()
    assert (np.diff(reward) >= -1e-12).all()
    assert reward[-1] == pytest.approx(frontier.best_of([SAMPLES]).mean())
    assert divergence_bound(SAMPLES) < 8.0
    exact = Frontier(np.array([[0.0, 1.0]]), log_p=np.log([[0.5, 0.5]]))
    kl, reward = optimal(exact, 8.0)
    assert reward[-1] == pytest.approx(1.0)
    assert optimal(exact, 0.2)[0][-1] == 0.2


def test_rows_over_other_prompts_are_left_out_with_a_reason(tmp_path):
    """A row that lacks a prompt, or asked it in other words, is named and counted."""
    write_base(tmp_path)
    write_run(tmp_path, run_spec("hh_rlhf", "unsteered"), {"reward": [0.0] * 8}, prompts=8)
    folder = write_run(tmp_path, run_spec("hh_rlhf", "b"), {"reward": [0.0] * COUNT})
    prompts = (folder / "prompts.jsonl").read_text()
    (folder / "prompts.jsonl").write_text(prompts.replace("question hh_rlhf-003", "other"))
    held = gaps(
        read_base(tmp_path, TERMS, "hh_rlhf"), read_cell(tmp_path / "runs" / TERMS / "hh_rlhf")
    )
    assert held.left_out == {
        "unsteered": "it answered 8 of the frontier's 12 prompts",
        "b": "it answered 11 of the frontier's 12 prompts",
    }


def test_the_page_says_what_is_known_and_how(found, tmp_path):
    """Markdown, CSV, LaTeX and figure hold every row; the same again is the same bytes."""
    paths = write(found, tmp_path / "tables")
    text = paths[0].read_text()
    for words in ("≥ ", "≤ 0.80", "(best of n)", "Rows by optimised reward", "Rows by gold",
                  "toy over n", "lower bound of the optimum"):  # fmt: skip
        assert words in text
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert len(rows) == 16
    assert {row["gap_is"] for row in rows} == {"is", "at least", "at most", "unknown"}
    curve = list(csv.DictReader(paths[3].read_text().splitlines()))
    assert {line["line"] for line in curve} == {"estimated", "best of n"}
    assert all(
        line["gold"] for line in curve if line["line"] == "estimated" and line["reward"] == "reward"
    )
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write(found, tmp_path / "tables")] == before
    said = sentences(found)
    assert any(line.startswith("frontier of optimised reward: 0 nats") for line in said)
    assert "largest share of its area in gold: toy(n=4), " in " ".join(said)


def test_a_frontier_without_rows_stands_alone(tmp_path):
    """Base answers and no run give a page; no base answers give none."""
    from harness.report.frames import Cell

    cell = Cell("hh_rlhf", ())
    assert write_frontier(tmp_path, TERMS, cell, tmp_path / "out") == []
    write_base(tmp_path, count=3)
    paths = write_frontier(tmp_path, TERMS, cell, tmp_path / "out")
    assert "The frontier of 3 prompts, from 64 base answers to each" in paths[0].read_text()


def test_answers_that_are_not_there_are_missed(tmp_path):
    """A store that lost a line says how much is missing and what draws it again."""
    write_base(tmp_path, missing=2)
    with pytest.raises(PlumblineError, match=r"lacks 32 of 768 base answers.*make frontier"):
        read_base(tmp_path, TERMS, "hh_rlhf")
