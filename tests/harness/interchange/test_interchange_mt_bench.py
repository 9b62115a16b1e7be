"""FastChat's files become runs, and runs become FastChat's files."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import store
from harness.interchange import external
from harness.interchange.stored import read_run

DATA = Path(__file__).parents[4] / "shared" / "data" / "mt_bench"
published = pytest.mark.skipif(not DATA.is_dir(), reason="needs published MT-Bench judgments")
GRADES, WINS = "grade@mt_bench_single@gpt-4", "win_rate@mt_bench_pairwise@gpt-4"
NUMBERS = (81, 101)


def written(path, records):
    """Write JSON lines and give the path as a word of a command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def questions(folder, numbers=NUMBERS):
    """Write a question file."""
    categories = {81: "writing", 101: "math"}
    return written(
        folder / "question.jsonl",
        [
            {"question_id": n, "category": categories[n], "turns": [f"{n} one?", f"{n} two?"]}
            for n in numbers
        ],
    )


def answers(folder, model="mine", numbers=NUMBERS, turns=2):
    """Write a file of answers."""
    return written(
        folder / f"{model}.jsonl",
        [
            {
                "question_id": n,
                "answer_id": "x",
                "model_id": model,
                "choices": [{"index": 0, "turns": [f"{model} {n} {t}" for t in range(turns)]}],
                "tstamp": 1.0,
            }
            for n in numbers
        ],
    )


def single(folder, model="mine", scores=(9, 4.5, -1, 10), **changes):
    """Write single judgments of both turns of both questions."""
    words = {-1: "$ERROR$"}
    return written(
        folder / f"{model}_single.jsonl",
        [
            {
                "question_id": n,
                "model": model,
                "judge": ["gpt-4", "single-v1"],
                "user_prompt": "",
                "judgment": words.get(s, f"Rating: [[{s}]]"),
                "score": s,
                "turn": turn,
                "tstamp": 1.0,
            }
            | changes
            for (n, turn), s in zip([(n, t) for n in NUMBERS for t in (1, 2)], scores, strict=True)
        ],
    )


def pair(folder, winners):
    """Write judgments of the first turns of mine against other."""
    return written(
        folder / "pair.jsonl",
        [
            {
                "question_id": n,
                "model_1": "mine",
                "model_2": "other",
                "g1_winner": g1,
                "g2_winner": g2,
                "judge": ["gpt-4", "pair-v2"],
                "g1_user_prompt": "",
                "g1_judgment": "first words",
                "g2_user_prompt": "",
                "g2_judgment": "second words",
                "turn": 1,
                "tstamp": 1.0,
            }
            for n, (g1, g2) in zip(NUMBERS, winners, strict=True)
        ],
    )


def command(*words, results):
    """Run a command; give its exit code and all it printed on one line."""
    result = CliRunner().invoke(app, ["import", *words, "--output_path", str(results)])
    return result.exit_code, " ".join(result.output.split())


def run_of(results, model="mine"):
    """Read a model's one run."""
    terms = external.terms(store.Store(results), None).folder
    return read_run(results / "runs" / terms / "mt_bench" / f"external-{model}")


def test_graded_answers_become_a_row(tmp_path):
    """A score is the grade, -1 is no grade; turns count from the first."""
    results = tmp_path / "r"
    code, said = command(questions(tmp_path), answers(tmp_path), single(tmp_path), results=results)
    assert code == 0, said
    run = run_of(results)
    found = {k: (s.value, s.outcome) for k, s in run.scores[GRADES].items()}
    assert found == {
        ("81", 0): (9.0, "ok"),
        ("81", 1): (4.5, "ok"),
        ("101", 0): (None, "failed"),
        ("101", 1): (10.0, "ok"),
    }
    assert run.answers["101", 1] == "mine 101 1"
    assert (results / "tables" / "external" / "mt_bench.md").exists()


def test_a_pair_is_one_observation_of_both_orders_for_both_models(tmp_path):
    """Two orders that disagree are a half, counted; a game without a winner is no verdict."""
    results = tmp_path / "r"
    winners = [("model_1", "model_2"), ("model_1", "error")]
    files = [answers(tmp_path), answers(tmp_path, "other")]
    code, said = command(questions(tmp_path), *files, pair(tmp_path, winners), results=results)
    assert code == 0, said
    assert "2 answers that the judgments do not judge" in said
    for model in ("mine", "other"):
        scores = run_of(results, model).scores[WINS]
        assert (scores["81", 0].value, scores["81", 0].parts["inconsistent"]) == (0.5, 1.0)
        assert scores["101", 0].outcome == "unparsed"
    winners = [("model_1", "model_1"), ("tie", "model_2")]
    command(questions(tmp_path), *files, pair(tmp_path, winners), results=tmp_path / "s")
    mine, other = (run_of(tmp_path / "s", m).scores[WINS] for m in ("mine", "other"))
    assert [mine[k].value for k in (("81", 0), ("101", 0))] == [1.0, 0.25]
    assert [other[k].value for k in (("81", 0), ("101", 0))] == [0.0, 0.75]


def test_missing_answers_are_named_or_counted(tmp_path):
    """The questions without an answer are listed; --partial imports the rest."""
    words = questions(tmp_path), answers(tmp_path, numbers=(81,), turns=1)
    code, said = command(*words, results=tmp_path / "r")
    assert code == 1
    assert "mine does not answer 3 questions (81 turn 2, 101, 101 turn 2) of mt_bench" in said
    code, said = command(*words, "--partial", results=tmp_path / "r")
    assert code == 0
    assert "3 questions without an answer in the imported file" in said
    assert len(run_of(tmp_path / "r").answers) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: [answers(d)], "name questions by number only"),
        (lambda d: [questions(d), single(d)], "judgments hold no answers"),
        (lambda d: [questions(d, (81,)), answers(d)], "answers 1 questions (101) nobody asked"),
        (lambda d: [questions(d), answers(d, numbers=(81, 81))], "1 questions (81) occur more"),
        (
            lambda d: [questions(d), answers(d), single(d, "other")],
            "judges other, whose answers are not given; there are those of mine",
        ),
        (
            lambda d: [questions(d), answers(d), single(d, question_id=81, turn=1)],
            "question 81, turn 1 twice",
        ),
        (
            lambda d: [questions(d), answers(d), single(d, score="9")],
            "field 'score' is a str; it must be a float",
        ),
        (
            lambda d: [questions(d), answers(d), answers(d / "b")],
            "a second file of answers by mine",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path, make, message):
    """What is wrong is named, and nothing is written."""
    code, said = command(*make(tmp_path), results=tmp_path / "r")
    assert code == 1
    assert message in said
    assert "Traceback" not in said
    assert not list((tmp_path / "r").glob("runs/*/*"))


def exported(run, folder):
    """Export a run; give the files by name."""
    words = ["export", str(run.folder), "--format", "fastchat", "--to", str(folder)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return {path.name: path for path in folder.rglob("*.jsonl")}


def test_an_exported_run_imports_to_the_same_run(tmp_path):
    """Questions, answers, grades and pairs survive the way out and back."""
    results = tmp_path / "r"
    files = [answers(tmp_path), answers(tmp_path, "other"), single(tmp_path)]
    winners = [("model_1", "model_2"), ("tie", "tie")]
    command(questions(tmp_path), *files, pair(tmp_path, winners), results=results)
    first = run_of(results)
    out = exported(first, tmp_path / "out")
    assert set(out) == {
        "question.jsonl", "mine.jsonl", "gpt-4_single.jsonl", "gpt-4_pair.jsonl",
    }  # fmt: skip
    code, said = command(*map(str, out.values()), files[1], results=tmp_path / "s")
    assert code == 0, said
    second = run_of(tmp_path / "s")
    assert second.answers == first.answers
    for column in (GRADES, WINS):
        before, after = first.scores[column], second.scores[column]
        assert {k: (s.value, dict(s.parts), s.text) for k, s in before.items()} == {
            k: (s.value, dict(s.parts), s.text) for k, s in after.items()
        }


@published
def test_a_table_has_the_published_averages(tmp_path):
    """By turn and over both, to the printed digit, for a published run."""
    from harness.report.categories import by_category
    from harness.report.comparison import compare
    from harness.report.frames import read_cell

    folder = DATA / "gpt4_single"
    names = [
        folder / f"claude-3-opus-20240229.{kind}.jsonl.gz" for kind in ("answers", "judgments")
    ]
    command(str(DATA / "question.jsonl"), *map(str, names), results=tmp_path / "r")
    cell = run_of(tmp_path / "r", "claude-3-opus-20240229").folder.parent.parent
    (table,) = by_category(compare(read_cell(cell)))
    ((_, means),) = table.rows
    found = [means[part].value for part in ("turn 1", "turn 2", "all")]
    assert found == pytest.approx([9.0437, 8.3063, 8.6750], abs=0.5e-4 + 1e-9)
    assert len(table.categories) == 8


@published
def test_published_files_survive_the_way_through_a_run(tmp_path):
    """FastChat's own answers and judgments come out as they went in, but for prompts and stamps."""
    model, folder = "llama-2-chat-7b", DATA / "gpt4_single"
    names = [folder / f"{model}.answers.jsonl.gz", folder / f"{model}.judgments.jsonl.gz"]
    words = [str(DATA / "question.jsonl"), *map(str, names)]
    code, said = command(*words, results=tmp_path / "r")
    assert code == 0, said
    out = exported(run_of(tmp_path / "r", model), tmp_path / "out")

    import gzip

    def lines(path):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def told(records, *fields):
        return sorted([[record[name] for name in fields] for record in records], key=str)

    fields = ("question_id", "model", "judge", "judgment", "score", "turn")
    ours = lines(out["gpt-4_single.jsonl"])
    assert told(ours, *fields) == told(lines(names[1]), *fields)
    turns = {r["question_id"]: r["choices"][0]["turns"] for r in lines(names[0])}
    assert {
        r["question_id"]: r["choices"][0]["turns"] for r in lines(out[f"{model}.jsonl"])
    } == turns
