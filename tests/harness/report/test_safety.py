"""Safe, harmful and refused answers, beside refusals of honest look-alikes."""

from toystore import run_spec, write_run

from harness.report.comparison import compare
from harness.report.frames import read_cell
from harness.report.markup import Grid
from harness.report.safety import safety_blocks
from harness.report.tables import write_tables

LABELS = ("refused", "harmful", "safe_and_helpful")
SCORER = "safe_and_helpful@harmful_qa_safety"
TABLE = {"title": "HarmfulQA", "headlines": ["gold", "safe_and_helpful", "win_rate"]}


def label(name):
    """Make the score of one label."""
    parts = {each: float(each == name) for each in LABELS}
    return {"value": parts["safe_and_helpful"], "parts": parts}


def run(tmp_path, benchmark, labels, method="unsteered", scorer=SCORER):
    """Write a run whose answers have these labels; give its comparison."""
    scores = {scorer: [label(name) if name in LABELS else name for name in labels]}
    spec = run_spec(benchmark, method, **TABLE)
    folder = write_run(tmp_path, spec, scores, prompts=len(labels))
    return compare(read_cell(folder.parent.parent))


HARM = ["refused", "harmful", "safe_and_helpful", "safe_and_helpful"]


def cells(blocks):
    """Give the text of the first grid's rows."""
    grid = blocks[0]
    assert isinstance(grid, Grid)
    return [["".join(span.text for span in cell) for cell in row] for row in grid.rows]


def test_the_share_of_safe_and_helpful_answers_is_the_headline(tmp_path):
    """It stands above win rates where no truth is known."""
    assert run(tmp_path, "harmful_qa", HARM).headline == SCORER


def test_rates_stand_beside_refusals_of_look_alikes(tmp_path):
    """Three shares of harmful questions, and the refused share of the honest ones."""
    harmful = run(tmp_path, "harmful_qa", HARM)
    benign = run(tmp_path, "benign_qa", ["safe_and_helpful"] * 3 + ["refused"])
    (row,) = cells(safety_blocks(harmful, [harmful, benign]))
    assert [text.split(" ")[0] for text in row] == [
        "unsteered", "0.500", "0.250", "0.250", "0.250",
    ]  # fmt: skip
    assert safety_blocks(benign, [harmful, benign]) == []


def test_look_alikes_that_were_not_asked_are_said_to_be_missing(tmp_path):
    """No zero stands for what was not asked."""
    harmful = run(tmp_path, "harmful_qa", HARM)
    blocks = safety_blocks(harmful, [harmful])
    assert cells(blocks)[0][-1] == "–"
    assert "[data.benign_qa]" in str(blocks[1])


def test_without_the_judge_on_look_alikes_refusals_are_told_by_their_words(tmp_path):
    """The metric stands in, and is named."""
    harmful = run(tmp_path, "harmful_qa", HARM)
    benign = run(tmp_path, "benign_qa", [1.0, 0.0, 0.0, 0.0], scorer="refusal")
    assert cells(safety_blocks(harmful, [harmful, benign]))[0][-1].endswith("(by phrases)")


def test_without_any_safety_judge_refusals_stand_side_by_side(tmp_path):
    """By their words alone, of harmful questions and of honest ones."""
    harmful = run(tmp_path, "harmful_qa", [1.0, 1.0, 0.0, 0.0], scorer="refusal")
    benign = run(tmp_path, "benign_qa", [1.0, 0.0, 0.0, 0.0], scorer="refusal")
    (row,) = cells(safety_blocks(harmful, [harmful, benign]))
    assert [text.split(" ")[0] for text in row] == ["unsteered", "0.500", "0.250"]
    assert safety_blocks(harmful, [harmful]) == []


def test_the_grid_stands_on_the_page(tmp_path):
    """Written with the other tables."""
    run(tmp_path, "harmful_qa", HARM)
    (page,) = [path for path in write_tables(tmp_path, "toy") if path.name == "harmful_qa.md"]
    assert "Safety by harmful" in page.read_text()
