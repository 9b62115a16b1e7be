"""Imported runs beside a protocol's own, and judges that do not compare, from end to end."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import runner, store
from harness.conduct.protocol import load
from harness.conduct.setting import Setting
from harness.contracts.backends import Canned
from harness.errors import PlumblineError


class Graded(Setting):
    """A setting whose judges grade by the length of what they are asked."""

    def backend(self, judging):
        """Give the canned judge: a grade and a label in one reply."""

        def answer(chat):
            grade = 1 + len(chat.last_user) % 10
            label = "refused" if grade < 4 else "safe and helpful"
            return f"[[{grade}]]" if "Grade:" in chat.last_user else f"[[{label}]]"

        return Canned(answer, name="canned-7b")


@pytest.fixture
def graded(tiny, tmp_path):
    """Run two rows under a grading and a labelling judge; give the protocol's file."""
    file = tmp_path / "graded.toml"
    judges = "".join(
        f'[judging.{name}]\nbackend = "world"\nbenchmarks = ["{benchmark}"]\n'
        for name, benchmark in (("mt_bench_single", "mt_bench"), ("harmful_qa_safety", "hh_rlhf"))
    )
    file.write_text(Path(tiny).read_text() + judges)
    outcome = runner.bench(
        runner.order("another_seed", str(file)),
        store.Store(tmp_path / "results"),
        say=lambda line: None,
        setting=Graded(load(file), device="cpu"),
    )
    assert outcome.failures == []
    return file


def table(tmp_path, benchmark):
    """Read a table by row."""
    with (tmp_path / "results/tables/graded" / f"{benchmark}.csv").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def only_run(tmp_path, benchmark, stack):
    """Give the folder of a row's one run."""
    (spec,) = tmp_path.glob(f"results/runs/graded-*/{benchmark}/{stack}/*/spec.json")
    return spec.parent


def test_grades_and_labels_are_columns_of_their_own(graded, tmp_path):
    """A grading judge and a labelling one score every row, the reference too."""
    for benchmark, column in (
        ("mt_bench", "grade@mt_bench_single"),
        ("hh_rlhf", "safe_and_helpful@harmful_qa_safety"),
    ):
        for stack in ("unsteered", "another_seed"):
            folder = only_run(tmp_path, benchmark, stack)
            scores = store.scores(folder, column)
            assert set(scores) == {r.key for r in store.responses(folder)}
            assert {s.outcome for s in scores.values()} == {"ok"}
    page = (tmp_path / "results/tables/graded/mt_bench.md").read_text()
    assert "grade by mt_bench_single" in page
    assert "Safety by" in (tmp_path / "results/tables/graded/hh_rlhf.md").read_text()


def test_prompts_that_are_not_there_are_found_before_anything_is_run(tiny, tmp_path):
    """A judge's file of prompts is read when the command is, not when the answers are made."""
    file = tmp_path / "judged.toml"
    for judge, message in (
        ("mt_bench_single", "judge prompts /nowhere do not exist"),
        ("hh_rlhf_pairwise", "only a judge of MT-Bench"),
    ):
        section = f'[judging.{judge}]\nbackend = "world"\nprompts = "/nowhere"\n'
        file.write_text(Path(tiny).read_text() + section)
        with pytest.raises(PlumblineError, match=message):
            runner.order("unsteered", str(file))


def answers(tmp_path, ids, name="theirs"):
    """Write another model's answers to the first and second turns."""
    path = tmp_path / f"{name}.jsonl"
    records = [
        {"question_id": i, "model_id": name, "choices": [{"index": 0, "turns": ["a b", "c"]}]}
        for i in ids
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def command(*words, tmp_path):
    """Run a command; give its exit code and all it printed on one line."""
    result = CliRunner().invoke(app, [*words, "--output_path", str(tmp_path / "results")])
    return result.exit_code, " ".join(result.output.split())


def test_an_imported_row_stands_beside_the_protocols_own(graded, tmp_path):
    """The same questions, so the same table; a judge scores it like any other run."""
    prompts = store.read_lines(only_run(tmp_path, "mt_bench", "unsteered") / "prompts.jsonl")
    file = answers(tmp_path, [p["id"] for p in prompts])
    code, said = command("import", file, "--protocol", str(graded), tmp_path=tmp_path)
    assert code == 0, said
    rows = table(tmp_path, "mt_bench")
    assert {"unsteered", "another_seed", "theirs"} <= set(rows)
    folder = only_run(tmp_path, "mt_bench", "external-theirs")
    theirs, own = (store.read_json(path / "spec.json") for path in (
        folder, only_run(tmp_path, "mt_bench", "unsteered")))  # fmt: skip
    assert (theirs["items"], theirs["protocol_hash"]) == (own["items"], own["protocol_hash"])
    from harness.conduct.rejudging import rejudge

    setting = Graded(load(graded), device="cpu")
    how = setting.protocol.sections.judging["mt_bench_single"]
    done = rejudge(setting, [folder], "mt_bench_single", how, say=lambda line: None)
    assert done.outcomes == {"ok": 2 * len(prompts)}


def test_an_imported_row_does_not_hide_one_of_ours(graded, tmp_path):
    """A name that one of our own rows bears is refused."""
    prompts = store.read_lines(only_run(tmp_path, "mt_bench", "unsteered") / "prompts.jsonl")
    file = answers(tmp_path, [p["id"] for p in prompts])
    words = "import", file, "--protocol", str(graded), "--name", "unsteered"
    code, said = command(*words, tmp_path=tmp_path)
    assert (code, "has a row called unsteered that was made here" in said) == (1, True)


def test_answers_to_other_questions_do_not_stand_beside_a_protocol(graded, tmp_path):
    """Strange and missing questions are named; so is a protocol without runs."""
    prompts = store.read_lines(only_run(tmp_path, "mt_bench", "unsteered") / "prompts.jsonl")
    ids = [p["id"] for p in prompts]
    code, said = command(
        "import", answers(tmp_path, ["x1"]), "--protocol", str(graded), tmp_path=tmp_path
    )
    assert (code, "answers 1 questions (x1) nobody asked" in said) == (1, True)
    code, said = command(
        "import", answers(tmp_path, ids[1:]), "--protocol", str(graded), tmp_path=tmp_path
    )
    assert code == 1
    assert f"does not answer 2 questions ({ids[0]}, {ids[0]} turn 2)" in said
    code, said = command("import", answers(tmp_path, ids), "--protocol", "small", tmp_path=tmp_path)
    assert (code, "no finished run of protocol 'small'" in said) == (1, True)
