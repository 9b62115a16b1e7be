"""A curve from fit to figure on the world planted: shares are fitted, run, read and drawn."""

import csv

from harness.conduct import curving, runner, store


def test_a_curve_from_fit_to_figure(tiny, fitted, tmp_path):
    """Every share is a fit on so many pairs and a point of the curve; a level stands beside it."""
    asked = runner.order(f"{fitted},best_of_n(n=2)", tiny, benchmarks="hh_rlhf", limit=12)
    said = []
    written, failures = curving.run(
        curving.plan(asked, "0.1,0.5,1"), store.Store(tmp_path), say=said.append, device="cpu"
    )
    assert failures == []

    seen = {}  # of 32 pairs a tenth is 4
    for file in tmp_path.glob("fits/*/*/*/facts.json"):
        spec = store.read_json(file.with_name("spec.json"))
        seen[spec["method"].get("fraction", 1.0)] = store.read_json(file)["facts"]["pairs"]
    assert seen == {0.1: 4, 0.5: 16, 1.0: 32}

    assert written[-1].suffix == ".png"
    lines = list(csv.DictReader(written[0].read_text().splitlines()))
    gold = [line for line in lines if line["metric"] == "gold"]
    assert [line["pairs"] for line in gold] == ["4", "16", "32", ""]
    assert all(float(line["low"]) <= float(line["value"]) <= float(line["high"]) for line in gold)
    assert {"reward", "gold"} <= {line["metric"] for line in lines}
    assert any(s.startswith("hh_rlhf  gold: ") and "of resamples cross" in s for s in said)
