"""AlpacaEval's files become runs, and runs become AlpacaEval's files."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import rejudging, store
from harness.interchange import alpaca, external
from harness.interchange.reading import read
from harness.interchange.stored import read_run
from harness.report.comparison import compare
from harness.report.frames import read_cell
from harness.report.leaderboard import board_records, leaderboards

DATA = Path(__file__).parents[4] / "shared" / "data" / "alpaca_eval"
published = pytest.mark.skipif(not DATA.is_dir(), reason="needs AlpacaEval's published verdicts")
JUDGE = "weighted_alpaca_eval_gpt4_turbo"
PREFERENCES = (1, 2, 1.5, None, 1.25)


def rows(count=5, **changes):
    """Make annotations of one model, each with another kind of preference."""
    return [
        {
            "instruction": f"Do {i}.",
            "output_1": f"base {i}",
            "generator_1": "base",
            "output_2": f"ours {i}",
            "generator_2": "mine",
            "annotator": "somebody",
            "preference": PREFERENCES[i % 5],
        }
        | changes
        for i in range(count)
    ]


def written(path, records):
    """Write a JSON file and give its path as a word of a command."""
    path.write_text(json.dumps(records))
    return str(path)


def outputs(path, count=5, generator="mine", start=0):
    """Write model outputs."""
    records = [
        {"instruction": f"Do {i}.", "output": f"ours {i}", "generator": generator, "dataset": "d"}
        for i in range(start, start + count)
    ]
    return written(path, records)


def command(*words, results):
    """Run a command; give its exit code and all it printed."""
    result = CliRunner().invoke(app, [*map(str, words), "--output_path", str(results)])
    return result.exit_code, result.output


def only_run(results, benchmark="alpaca_eval"):
    """Read the one run there is."""
    return read_run(
        results / "runs" / f"external-{external.terms(store.Store(results), None).hash}"
    )


def test_annotations_alone_become_a_row(tmp_path):
    """Answers, opponent and verdicts of every kind; a null preference is no verdict, not a tie."""
    code, said = command("import", written(tmp_path / "a.json", rows()), results=tmp_path / "r")
    assert code == 0, said
    assert "5 answers; 5 win_rate@somebody" in said
    run = only_run(tmp_path / "r")
    assert run.label == "mine"
    found = {p.chat.last_user: run.scores["win_rate@somebody"][p.id, 0] for p in run.prompts}
    assert [(s.value, s.outcome) for s in found.values()] == [
        (0.0, "ok"), (1.0, "ok"), (0.5, "tie"), (None, "unparsed"), (0.25, "ok"),
    ]  # fmt: skip
    assert [p.reference for p in run.prompts] == [f"base {i}" for i in range(5)]
    table = (tmp_path / "r" / "tables" / "external" / "alpaca_eval.md").read_text()
    assert "mine ↗" in table


def test_an_imported_row_can_be_judged_without_a_protocol_of_its_own(tmp_path):
    """Its judge is named whole, so any protocol file serves."""
    command("import", written(tmp_path / "a.json", rows()), results=tmp_path / "r")
    folder = only_run(tmp_path / "r").folder
    assert rejudging.protocol_of([folder], "").stem == "testbed"
    assert rejudging.protocol_of([folder], "small").stem == "small"


def test_the_same_files_again_are_the_same_run(tmp_path):
    """Nothing is imported twice."""
    file = written(tmp_path / "a.json", rows())
    for _ in range(2):
        assert command("import", file, results=tmp_path / "r")[0] == 0
    only_run(tmp_path / "r")


def test_two_models_and_a_reference_share_a_table(tmp_path):
    """A row that is called unsteered is what the other is compared with."""
    results = tmp_path / "r"
    command("import", written(tmp_path / "a.json", rows()), results=results)
    other = rows(generator_2="other", preference=2)
    file = written(tmp_path / "b.json", other)
    code, _ = command("import", file, "--name", "unsteered", results=results)
    assert code == 0
    with (results / "tables" / "external" / "alpaca_eval.csv").open() as file:
        found = {row["method"]: row for row in csv.DictReader(file)}
    assert set(found) == {"mine", "unsteered"}
    assert float(found["mine"]["difference"]) == pytest.approx((0 + 1 + 0.5 + 0.25) / 4 - 1)


def test_an_exported_run_imports_to_the_same_run(tmp_path):
    """Answers, preferences and judge survive the way out and back."""
    results, out = tmp_path / "r", tmp_path / "out"
    command("import", written(tmp_path / "a.json", rows()), results=results)
    first = only_run(results)
    result = CliRunner().invoke(
        app, ["export", str(first.folder), "--format", "alpaca_eval", "--to", str(out)]
    )
    assert result.exit_code == 0, result.output
    files = [str(path) for path in sorted(out.rglob("*.json"))]
    assert [Path(f).name for f in files] == ["model_outputs.json", "annotations.json"]
    command("import", *files, results=tmp_path / "again")
    second = only_run(tmp_path / "again")
    assert second.answers == first.answers
    assert second.prompts[0].reference == first.prompts[0].reference
    values = [
        {k: s.value for k, s in r.scores["win_rate@somebody"].items()} for r in (first, second)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda d: [outputs(d / "o.json"), written(d / "a.json", rows(7))],
            "judges 2 instructions (Do 5., Do 6.) that are not among the model's 5 outputs",
        ),
        (
            lambda d: [written(d / "a.json", rows(2) + rows(2))],
            "2 instructions (Do 0., Do 1.) occur more than once",
        ),
        (
            lambda d: [
                written(
                    d / "a.json", [{k: v for k, v in r.items() if k != "output_2"} for r in rows()]
                )
            ],
            "holds no answers (output_2)",
        ),
        (
            lambda d: [
                written(d / "a.json", rows(2) + [r | {"generator_2": "x"} for r in rows()[2:]])
            ],
            "one generator a file",
        ),
        (lambda d: [written(d / "a.json", rows(2, preference=3))], "preference 1 is 3"),
        (lambda d: [written(d / "a.json", rows(2, instruction=5))], "must be a str"),
        (lambda d: [written(d / "a.json", [{"x": 1}])], "is none of AlpacaEval's"),
        (lambda d: [str(d / "none.json")], "no such file"),
        (
            lambda d: [
                outputs(d / "o.json"),
                written(d / "q.json", [{"question_id": 1, "turns": ["?"]}]),
            ],
            "not of one tool",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path, make, message):
    """What is wrong is named, nothing is written, no traceback is shown."""
    code, said = command("import", *make(tmp_path), results=tmp_path / "r")
    assert code == 1
    assert message in " ".join(said.split())
    assert "Traceback" not in said
    assert not list((tmp_path / "r").glob("runs/*/*"))


def test_unknown_formats_and_places_without_a_run_are_refused(tmp_path):
    """The formats there are, and what RUN takes, are named."""
    command("import", written(tmp_path / "a.json", rows()), results=tmp_path / "r")
    for words, message in (
        ((str(tmp_path / "r"), "--format", "csv"), "unknown format 'csv'"),
        ((str(tmp_path / "nowhere"), "--format", "fastchat"), "is no folder with runs"),
    ):
        result = CliRunner().invoke(app, ["export", *words, "--to", str(tmp_path / "out")])
        assert result.exit_code == 1
        assert message in " ".join(result.output.split())


# ---------------------------------------------------------------- published


def imported(results, evaluator, model, reference):
    """Import a published model as a row."""
    run = alpaca.external(
        [read(DATA / "model_outputs" / f"{model}.jsonl.gz")],
        [read(DATA / "annotations" / evaluator / f"{model}.jsonl.gz")],
        read(DATA / "model_outputs" / f"{reference}.jsonl.gz"),
        None,
    )
    place = store.Store(results)
    return external.write(place, run, external.terms(place, None)).parent.parent


@published
def test_a_published_row_has_its_published_numbers_and_its_name(tmp_path):
    """AlpacaEval 2 by its judge, against its reference, over 805 items; 803 items are not that."""
    for model in ("vicuna-7b", "text_davinci_001"):
        folder = imported(tmp_path, JUDGE, model, "gpt4_1106_preview")
    comparison = compare(read_cell(folder))
    records = {str(r[""]): r for r in board_records(comparison)}
    with (DATA / "leaderboards" / f"alpaca_eval_2.{JUDGE}.csv").open(newline="") as file:
        board = {row[""]: row for row in csv.DictReader(file)}
    for model, record in records.items():
        for name in ("win_rate", "standard_error", "discrete_win_rate"):
            assert record[name] == pytest.approx(float(board[model][name]), abs=1e-9)
        for name in ("n_wins", "n_wins_base", "n_draws", "n_total"):
            assert record[name] == int(board[model][name])
        assert record["length_controlled_winrate"] != record["length_adjusted_ours"]
    assert {m: r["board"] for m, r in records.items()} == {
        "vicuna-7b": "AlpacaEval 2",
        "text_davinci_001": "none",
    }
    titles = [block.title for block in leaderboards(comparison)]
    assert titles[0] == "AlpacaEval 2"
    assert titles[2].startswith("As on AlpacaEval's leaderboard")


@published
def test_alpaca_eval_1_has_its_own_name_and_another_reference_has_none(tmp_path):
    """The name hangs on the reference's very words."""
    folder = imported(tmp_path / "a", "alpaca_eval_gpt4", "alpaca-7b", "text_davinci_003")
    (record,) = board_records(compare(read_cell(folder)))
    assert record["board"] == "AlpacaEval 1"
    folder = imported(tmp_path / "b", "alpaca_eval_gpt4", "alpaca-7b", "gpt4_1106_preview")
    (record,) = board_records(compare(read_cell(folder)))
    assert record["board"] == "none"
