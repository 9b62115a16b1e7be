"""lm-eval's samples and results become runs, and runs become such files."""

import json

import pytest
from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import store
from harness.interchange import external
from harness.interchange.stored import read_run


def sample(doc, acc, sieve="none", **changes):
    """Make a sample as lm-eval logs it."""
    return {
        "doc_id": doc,
        "doc": {"question": f"q{doc}"},
        "target": "1",
        "arguments": {"gen_args_0": {"arg_0": f"Q: q{doc}\nA:", "arg_1": {"until": ["\n"]}}},
        "resps": [[f"said {doc}"]],
        "filtered_resps": [f"said {doc}"],
        "filter": sieve,
        "metrics": ["acc"],
        "doc_hash": "",
        "prompt_hash": "",
        "target_hash": "",
        "acc": acc,
    } | changes


def samples(folder, accs=(1.0, 0.0, 1.0, 1.0), name="samples_toy_task_2026-11-21T10-00-00.jsonl"):
    """Write a file of samples."""
    records = [sample(doc, acc) for doc, acc in enumerate(accs)]
    return written(folder / name, records)


def written(path, records):
    """Write JSON lines and give the path."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def results(folder, acc=0.75, task="toy_task"):
    """Write an aggregated file."""
    path = folder / "results_2026.json"
    path.write_text(
        json.dumps(
            {
                "results": {task: {"alias": task, "acc,none": acc, "acc_stderr,none": 0.25}},
                "configs": {},
                "versions": {task: 1},
                "config": {"model": "hf", "model_args": "pretrained=some/model"},
                "model_name": "some/model",
            }
        )
    )
    return str(path)


def command(*words, place):
    """Run an import; give its exit code and all it printed on one line."""
    result = CliRunner().invoke(app, ["import", *words, "--output_path", str(place)])
    return result.exit_code, " ".join(result.output.split())


def only_run(place):
    """Read the one run there is."""
    return read_run(place / "runs" / external.terms(store.Store(place), None).folder)


def test_samples_become_a_row_of_their_tasks_table(tmp_path):
    """A metric is a column, a document a prompt, the model as the results file names it."""
    code, said = command(samples(tmp_path), results(tmp_path), place=tmp_path / "r")
    assert code == 0, said
    run = only_run(tmp_path / "r")
    assert (run.label, run.spec["benchmark"]) == ("some/model", "lm_eval.toy_task")
    assert [p.chat.last_user for p in run.prompts] == [f"Q: q{i}\nA:" for i in range(4)]
    assert run.answers["2", 0] == "said 2"
    assert [run.scores["acc"][str(i), 0].value for i in range(4)] == [1, 0, 1, 1]
    table = (tmp_path / "r" / "tables" / "external" / "lm_eval.toy_task.md").read_text()
    assert "0.75" in table
    assert "some/model ↗" in table


def test_filters_are_columns_and_choices_are_kept_whole(tmp_path):
    """Two filters of one metric stand apart; several replies are kept as JSON."""
    records = [
        sample(doc, acc, sieve, filtered_resps=[["-1.5", "True"], ["-2.0", "False"]])
        for doc in range(2)
        for sieve, acc in (("strict", 0.0), ("flexible", 1.0))
    ]
    code, said = command(
        written(tmp_path / "samples_t.jsonl", records), "--name", "m", place=tmp_path / "r"
    )
    assert code == 0, said
    run = only_run(tmp_path / "r")
    assert run.label == "m"
    means = {name: {s.value for s in scores.values()} for name, scores in run.scores.items()}
    assert sorted(means.values(), key=str) == [{0.0}, {1.0}]
    assert json.loads(run.answers["0", 0]) == [["-1.5", "True"], ["-2.0", "False"]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: [results(d)], "hold no items; run it with --log_samples"),
        (
            lambda d: [samples(d), results(d, acc=0.5)],
            "toy_task has acc = 0.5, but its samples have 0.75",
        ),
        (lambda d: [samples(d), results(d, task="other")], "has no results of toy_task"),
        (
            lambda d: [written(d / "samples_t.jsonl", [sample(0, 1.0), sample(0, 1.0)])],
            "document 0 occurs twice",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path, make, message):
    """What is wrong is named, and nothing is written."""
    code, said = command(*make(tmp_path), place=tmp_path / "r")
    assert code == 1
    assert message in said
    assert "Traceback" not in said
    assert not list((tmp_path / "r").glob("runs/*/*"))


def test_an_exported_run_imports_to_the_same_scores(tmp_path):
    """Samples and results of one run agree with each other and with the run."""
    command(samples(tmp_path), results(tmp_path), place=tmp_path / "r")
    first = only_run(tmp_path / "r")
    words = ["export", str(first.folder), "--format", "lm_eval", "--to", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    files = [str(path) for path in sorted((tmp_path / "out").rglob("*.json*"))]
    code, said = command(*files, place=tmp_path / "s")
    assert code == 0, said
    second = only_run(tmp_path / "s")
    assert sorted(second.answers.values()) == sorted(first.answers.values())
    values = [sorted(s.value for s in run.scores["acc"].values()) for run in (first, second)]
    assert values[0] == values[1]
