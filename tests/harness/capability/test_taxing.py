"""Rows on tasks from fit to table: stored once, skipped with a reason, compared item by item."""

import json
import os

import pytest

from harness.capability.taxing import Manner, tax
from harness.conduct import runner, store
from harness.errors import PlumblineError
from harness.report.capability import read_taxes

PROTOCOL = """
[about]
text = "A protocol of the tests, on the synthetic world planted."
[model]
world = "planted"
reads_words = false
[rewards]
granted = { world = "reward" }
evaluation = { world = "reward" }
[data.hh_rlhf]
world = "hh_rlhf"
[training]
pairs = { world = "pairs.train" }
count = 32
[sampling]
temperature = 1.0
max_new_tokens = 4
[seeds]
fit = [0, 1, 2]
"""
READER = '''
class Docs(list):
    """Items with named fields."""

    @property
    def features(self):
        """Name the fields."""
        return dict.fromkeys(self[0])


def docs(**_):
    """Give twelve items."""
    words = [f"{x} {y} {z}" for x in "abc" for y in "ab" for z in "ac"]
    return {"test": Docs({"q": w, "choices": ["a", "b", "c"], "gold": i % 3}
                         for i, w in enumerate(words))}
'''
HEAD = """
custom_dataset: !function items.docs
test_split: test
metadata:
  chat: true
doc_to_text: "{{q}}"
"""
CHOICES = """
task: choices
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
ANSWERS = """
task: answers
output_type: generate_until
doc_to_target: "a"
generation_kwargs: {until: ["c"], max_gen_toks: 4, do_sample: true, temperature: 1.0}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
TEXTS = """
task: texts
output_type: loglikelihood_rolling
doc_to_target: "{{q}} a b"
metric_list:
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
"""
GROUP = """
group: both
task: [choices, answers_too]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
"""
SECOND = CHOICES.replace("task: choices", "task: answers_too")
FITTED = '''"""Learns how often each token was preferred."""
from dataclasses import dataclass
from typing import ClassVar
import torch
from harness.api import Fitted, Kit, Lab, Method, Need, Steering

@dataclass(frozen=True)
class Counted(Method):
    """A fitted method of the tests."""

    needs: ClassVar[frozenset[Need]] = frozenset({"pairs"})

    def fit(self, lab: Lab) -> Fitted:
        """Draw a weight for each token."""
        noise = torch.Generator().manual_seed(lab.seed)
        return Fitted({"weight": torch.randn(lab.model.vocabulary, generator=noise)})

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Add the weights to the logits; read something of the kit's on the way."""
        assert kit.reward is not None
        weight = fitted.tensors["weight"]
        return Steering(logits=(lambda logits, step: logits + weight,))
'''
SILENT = '''"""Forbids the letter b."""
from dataclasses import dataclass
from harness.api import Method, Steering

@dataclass(frozen=True)
class Silent(Method):
    """A method that finds some texts impossible."""

    def steer(self, kit, fitted):
        """Rule one token out."""
        def edit(logits, step):
            out = logits.clone()
            out[:, 4] = float("-inf")
            return out
        return Steering(logits=(edit,))
'''
BROKEN = '''"""Fails."""
from dataclasses import dataclass
from harness.api import Method, Steering

@dataclass(frozen=True)
class Broken(Method):
    """A method with a fault."""

    def steer(self, kit, fitted):
        """Fail while texts are read."""
        return Steering(logits=(lambda logits, step: logits.nothing,))
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a protocol, tasks and methods; the world's cache lasts as long."""
    folder = tmp_path_factory.mktemp("place")
    named = os.environ.get("PLUMBLINE_CACHE")
    os.environ["PLUMBLINE_CACHE"] = named or str(tmp_path_factory.mktemp("cache"))
    (folder / "small.toml").write_text(PROTOCOL)
    (folder / "items.py").write_text(READER)
    for name, text in (("choices", CHOICES), ("answers", ANSWERS), ("texts", TEXTS)):
        (folder / f"{name}.yaml").write_text(text + HEAD)
    (folder / "group.yaml").write_text(GROUP)
    (folder / "second.yaml").write_text(SECOND + HEAD)
    for name, text in (("counted", FITTED), ("silent", SILENT), ("broken", BROKEN)):
        (folder / f"{name}.py").write_text(text)
    yield folder
    if named is None:
        del os.environ["PLUMBLINE_CACHE"]


@pytest.fixture
def run(place):
    """Run a command's worth of rows."""

    def call(methods, tasks, results, **how):
        lines = []
        files = ",".join(str(place / f"{m}.py") if (place / f"{m}.py").exists() else m
                         for m in methods.split(",") if m)  # fmt: skip
        order = runner.order(files or "unsteered", str(place / "small.toml"))
        outcome = tax(
            order,
            tasks,
            store.Store(results),
            say=lines.append,
            include=place,
            device="cpu",
            **how,
        )
        return outcome, lines

    return call


def taxes(results):
    """Read back what a results folder holds, by title."""
    (terms,) = (path.name for path in (results / "capability").iterdir())
    return {tax.title: tax for tax in read_taxes(results, terms)}


def test_rows_are_evaluated_once_and_compared_item_by_item(run, place, tmp_path):
    """Every fit of every row has its cell and its line; a second command computes nothing."""
    outcome, lines = run("counted", "choices,answers,texts", tmp_path)
    assert outcome.failures == []
    assert outcome.finished == 3 * (1 + 3)  # the reference, and a row with three fits
    assert sum(line.startswith("choices  counted  acc ") for line in lines) == 3
    assert outcome.tables[0] == tmp_path / "tables" / "small" / "capability.md"
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("items.jsonl")}
    again, _ = run("counted", "choices,answers,texts", tmp_path)
    assert again.finished == outcome.finished
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("items.jsonl")} == done

    found = taxes(tmp_path)
    row = found["choices"].row("counted")
    assert len(row.runs) == 3
    assert {len(run.values["acc,none"]) for run in row.runs} == {12}
    base = found["choices"].row("unsteered").runs[0].values["acc,none"]
    mine = [run.values["acc,none"] for run in row.runs]
    by_hand = sum(sum(m[i] for m in mine) / 3 - base[i] for i in base) / 12
    assert row.change["acc,none"].value == pytest.approx(by_hand)
    assert row.change["acc,none"].low < row.change["acc,none"].high
    whole = row.runs[0].whole["acc,none"]
    assert whole == pytest.approx(sum(mine[0].values()) / 12)


def test_a_group_is_one_column_over_all_its_items(run, tmp_path):
    """A group of tasks is compared over the items of all of them, each by its own name."""
    outcome, _ = run("counted", "both", tmp_path)
    assert outcome.failures == []
    (found,) = taxes(tmp_path).values()
    evaluated = found.row("unsteered").runs[0]
    assert len(evaluated.values["acc,none"]) == 24
    assert {task for task, _ in evaluated.values["acc,none"]} == {"choices", "answers_too"}
    level = found.row("unsteered").level["acc,none"].value
    assert evaluated.whole["acc,none"] == pytest.approx(level)


def test_a_measure_of_the_whole_set_is_left_out_and_counted(run, tmp_path):
    """A perplexity over all words has no items: it is noted, and bits per byte compared."""
    run("", "texts", tmp_path)
    (found,) = taxes(tmp_path).values()
    assert found.measures == ("bits_per_byte,none",)
    evaluated = found.row("unsteered").runs[0]
    assert sum(evaluated.notes.values()) == 12
    assert evaluated.whole["word_perplexity,none"] > 1
    assert "measures of a whole set" in (tmp_path / "tables/small/capability.md").read_text()


def test_a_search_skips_likelihoods_with_a_reason(run, tmp_path):
    """Best-of-N answers the generation task and is skipped on the others; never a zero."""
    outcome, lines = run("best_of_n", "choices,answers,texts", tmp_path)
    assert outcome.failures == []
    assert sum("skipped: a search among candidates has no density" in line for line in lines) == 2
    page = (tmp_path / "tables/small/capability.md").read_text()
    assert "best_of_n on choices, texts: a search among candidates has no density" in page
    found = taxes(tmp_path)
    assert found["answers"].row("best_of_n").runs
    assert not found["choices"].row("best_of_n").runs
    text = (tmp_path / "tables/small/capability.csv").read_text()
    assert "skipped: a search among candidates" in text


def test_impossible_texts_have_no_mean(run, tmp_path):
    """A row that rules texts out is skipped where their likelihood is averaged, else noted."""
    outcome, lines = run("silent", "choices,texts", tmp_path)
    assert outcome.failures == []
    (skipped,) = (line for line in lines if "skipped" in line)
    assert skipped.startswith("texts  silent  skipped: 12 of 12 texts are impossible")
    notes = taxes(tmp_path)["choices"].row("silent").runs[0].notes
    assert notes == {"continuations that are impossible (log-likelihood minus infinity)": 12}


def test_a_row_that_fails_leaves_the_others(run, tmp_path):
    """A plugin's fault is one line with a log; the other rows are evaluated, the table written."""
    outcome, lines = run("broken,counted", "choices", tmp_path)
    (failure,) = outcome.failures
    assert "AttributeError" in failure
    assert "traceback in" in failure
    assert outcome.finished == 4
    assert outcome.tables
    assert any(line.startswith("failed: choices broken") for line in lines)


def test_ways_to_put_a_task_are_columns_of_their_own(run, place, tmp_path):
    """A limit, examples or another template is another column, and its rows never mix."""
    run("", "choices", tmp_path)
    run("", "choices", tmp_path, manner=Manner(limit=6))
    run("", "choices", tmp_path, manner=Manner(chat=False))
    assert set(taxes(tmp_path)) == {"choices, chat", "choices (first 6)", "choices, plain"}
    limited = taxes(tmp_path)["choices (first 6)"].row("unsteered").runs[0]
    assert limited.spec["marks"] == ["limited"]
    assert len(limited.values["acc,none"]) == 6


def test_an_edited_task_replaces_the_old_one(run, place, tmp_path):
    """Results on an earlier version of a task leave the table, counted."""
    run("counted", "choices", tmp_path)
    file = place / "choices.yaml"
    before = file.read_text()
    try:
        file.write_text(before.replace('"{{q}}"', '"{{q}} b"'))
        run("", "choices", tmp_path)
    finally:
        file.write_text(before)
    (found,) = taxes(tmp_path).values()
    assert [row.label for row in found.rows] == ["unsteered"]
    assert found.superseded == 4
    assert "4 older runs" in (tmp_path / "tables/small/capability.md").read_text()


def test_a_stored_fit_is_used(run, tmp_path):
    """A method is fitted where the bench would store its fit, once per fit seed."""
    run("counted", "choices,texts", tmp_path)
    fits = list(tmp_path.glob("fits/*/counted/*/done"))
    assert len(fits) == 3
    (spec,) = {p.read_text() for p in tmp_path.glob("fits/*/counted/*/spec.json")
               if json.loads(p.read_text())["seed"] == 1}  # fmt: skip
    assert json.loads(spec)["training"]["pairs"]


@pytest.mark.parametrize(
    ("tasks", "manner", "words"),
    [
        ("choises", Manner(), "unknown task 'choises'.*'choices'"),
        ("choices", Manner(fewshot=-1), "SHOTS is -1"),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(run, tmp_path, tasks, manner, words):
    """A wrong task or number of examples is an error, and nothing is stored."""
    with pytest.raises(PlumblineError, match=words):
        run("", tasks, tmp_path, manner=manner)
    assert not (tmp_path / "capability").exists()
