"""AlpacaEval's own regression, run as installed on verdicts that are published."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from harness.conduct import store
from harness.errors import PlumblineError
from harness.interchange import alpaca, external
from harness.interchange.reading import read
from harness.judging import official
from harness.report.comparison import compare
from harness.report.frames import read_cell
from harness.report.leaderboard import board_records, leaderboards

DATA = Path(__file__).parents[4] / "shared" / "data" / "alpaca_eval"
published = pytest.mark.skipif(not DATA.is_dir(), reason="needs AlpacaEval's published verdicts")
JUDGE = "weighted_alpaca_eval_gpt4_turbo"


@pytest.fixture(scope="module")
def gamed(tmp_path_factory):
    """Write a stand-in for the verdicts on gamed models, drawn from their published coefficients.

    The published file is on the Hub only; these have its columns and the difficulty of each item
    as it was reconstructed.
    """
    path = DATA / "length_control" / "instruction_difficulty.RECONSTRUCTED.csv"
    with path.open(newline="") as file:
        hard = np.array([float(row["instruction_difficulty"]) for row in csv.DictReader(file)])
    rng = np.random.default_rng(0)
    names = "preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"
    lines = [",".join((*names, "model"))]
    for sign in (-1, 1):
        lengths = sign * np.abs(rng.normal(1.3, 0.6, len(hard)))
        won = 1 / (1 + np.exp(1.6 * np.tanh(lengths) - 0.75 * hard))
        columns = zip(won, range(len(hard)), lengths, hard, strict=True)
        lines += [f"{p},{i},{d},{h},False,x" for p, i, d, h in columns]
    out = tmp_path_factory.mktemp("hub") / "df_gamed.csv"
    out.write_text("\n".join(lines) + "\n")
    return out


def annotations(model):
    """Read a model's verdicts."""
    with gzip.open(DATA / "annotations" / JUDGE / f"{model}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


@published
@pytest.mark.parametrize(
    ("model", "rate"), [("vicuna-7b", 6.277), ("alpaca-7b", 5.875), ("gemma-7b-it", 10.426)]
)
def test_upstreams_code_runs_and_comes_near_the_published_rate(gamed, model, rate):
    """With a stand-in for the gamed verdicts, within half a point."""
    rows = annotations(model)
    found, error = official.official_rate(
        [r["preference"] for r in rows],
        ["x" * r["len_1"] for r in rows],
        ["x" * r["len_2"] for r in rows],
        gamed,
    )
    assert found == pytest.approx(rate, abs=0.5)
    assert 0 < error < 1


def test_fewer_items_have_no_official_rate(tmp_path):
    """Upstream knows items by their place among 805."""
    with pytest.raises(PlumblineError, match="of all 805 items; here are 1"):
        official.official_rate([1.0], [""], [""], tmp_path)


@published
def test_a_file_that_is_none_is_said_to_have_failed(tmp_path):
    """What upstream's libraries raise becomes one line."""
    path = tmp_path / "df_gamed.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(PlumblineError, match="alpaca_eval's regression failed: KeyError"):
        official.official_rate([1.0] * 805, [""] * 805, ["x"] * 805, path)


@published
def test_a_table_says_which_regression_made_its_rate(gamed, tmp_path, monkeypatch):
    """Official where the data are here, and under its name; else ours, under ours."""
    run = alpaca.external(
        [read(DATA / "model_outputs" / "vicuna-7b.jsonl.gz")],
        [read(DATA / "annotations" / JUDGE / "vicuna-7b.jsonl.gz")],
        read(DATA / "model_outputs" / "gpt4_1106_preview.jsonl.gz"),
        None,
    )
    place = store.Store(tmp_path)
    folder = external.write(place, run, external.terms(place, None)).parent.parent
    comparison = compare(read_cell(folder))
    (ours,) = board_records(comparison)
    monkeypatch.setattr(official, "gamed_verdicts", lambda: gamed)
    (theirs,) = board_records(comparison)
    assert ours["length_controlled_winrate"] != ours["length_controlled_winrate"]  # NaN
    assert theirs["length_adjusted_ours"] != theirs["length_adjusted_ours"]
    assert theirs["length_controlled_winrate"] == pytest.approx(6.277, abs=0.5)
    headers = [block.header for block in leaderboards(comparison) if hasattr(block, "header")]
    assert "length-controlled" in headers[0]
