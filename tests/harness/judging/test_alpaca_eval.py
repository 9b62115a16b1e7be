"""AlpacaEval's judges as the installed package has them."""

import gzip
import json
from pathlib import Path

import pytest

from harness.chat import Chat
from harness.contracts.backends import Canned, Reply
from harness.contracts.scorer import Answered, Instruments, judge_scorer
from harness.errors import PlumblineError
from harness.judging import alpaca_eval
from harness.judging.preferences import shares
from harness.records import Prompt, Response

DATA = Path(__file__).parents[4] / "shared" / "data" / "alpaca_eval"
WEIGHTED, RANKED = "weighted_alpaca_eval_gpt4_turbo", "alpaca_eval_gpt4"
published = pytest.mark.skipif(not DATA.is_dir(), reason="needs AlpacaEval's published verdicts")


def annotations(evaluator, model):
    """Read one model's verdicts."""
    with gzip.open(DATA / "annotations" / evaluator / f"{model}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def outputs(model):
    """Read one model's outputs by instruction."""
    with gzip.open(DATA / "model_outputs" / f"{model}.jsonl.gz", "rt") as file:
        return {r["instruction"]: r["output"] for r in map(json.loads, file)}


@pytest.mark.parametrize("name", [WEIGHTED, RANKED])
def test_prompts_equal_the_packages_own(name):
    """Filled in and cut into turns as alpaca_eval itself does it, odd characters and all."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from alpaca_eval import utils
    row = {"instruction": "Say {x}.\n", "output_1": 'a """', "output_2": "b {instruction"}
    folder = alpaca_eval.configurations()
    path = {WEIGHTED: "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"}
    text = (folder / path.get(name, "alpaca_eval_gpt4/alpaca_eval.txt")).read_text("utf-8")
    (theirs,), _ = utils.make_prompts(pd.DataFrame([row]), text)
    chat = alpaca_eval.evaluator(name).chat(*row.values())
    assert chat.to_dicts() == utils.prompt_to_chatml(theirs)


@published
@pytest.mark.parametrize("model", ["vicuna-7b", "gemma-7b-it", "text_davinci_001"])
def test_stored_token_probabilities_give_the_stored_preferences(model):
    """The package's weighing parser and upstream's one order, over every stored verdict."""
    judge = alpaca_eval.evaluator(WEIGHTED)
    seen = 0
    for row in annotations(WEIGHTED, model):
        if "top_logprobs" not in row:
            continue
        assert alpaca_eval.model_first(row["instruction"]) == row["switched"]
        found = judge.preference(Reply("", logprobs=(dict(row["top_logprobs"]),)))
        ours = 3 - found if row["switched"] else found
        assert ours == pytest.approx(row["preference"], abs=1e-9)
        seen += 1
    assert seen >= 800


@published
def test_a_run_of_the_weighing_judge_gives_the_published_win_rate():
    """Answers, order, prompt, parser and shares end to end, the judge's tokens being stored."""
    rows = {r["instruction"]: r for r in annotations(WEIGHTED, "vicuna-7b")}
    ours, theirs = outputs("vicuna-7b"), outputs("gpt4_1106_preview")
    replies = {}
    evaluator = alpaca_eval.evaluator(WEIGHTED)
    for instruction, row in rows.items():
        first, second = theirs[instruction], ours[instruction]
        if alpaca_eval.model_first(instruction):
            first, second = second, first
        tokens = row.get("top_logprobs")  # three items were judged without
        replies[evaluator.chat(instruction, first, second)] = Reply(
            "", logprobs=(dict(tokens),) if tokens else None
        )
    scorer = judge_scorer(
        Instruments(backends={WEIGHTED: Canned(replies.__getitem__)}),
        WEIGHTED,
        alpaca_eval.packaged(WEIGHTED),
    )
    answered = [
        Answered(Prompt(i, Chat.of(i)), Chat.of(i), Response(i, 0, ours[i], (), "eos"))
        for i in rows
    ]
    scores = scorer.score(answered, {(i, 0): theirs[i] for i in rows})
    found = {s.prompt: s.value for s in scores if s.value is not None}
    stored = dict(zip(rows, shares([r["preference"] for r in rows.values()]), strict=True))
    assert found == pytest.approx({i: stored[i] for i in found}, abs=1e-9)
    assert len(found) == sum("top_logprobs" in r for r in rows.values()) == 803
    assert {s.outcome for s in scores if s.value is None} == {"unparsed"}


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]", 1),
        ("[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]", 2),
        ("[{'model': 'model_1', 'rank': 3}]", None),
        ("model_1 is better", None),
        ("", None),
    ],
)
def test_rankings_are_read_by_the_packages_parser(text, preference, caplog):
    """What it cannot read is no verdict, and nothing is logged about it."""
    assert alpaca_eval.evaluator(RANKED).preference(Reply(text)) == preference
    assert not caplog.records


def test_a_weighing_judge_without_probabilities_has_no_verdict():
    """Words are not weighed, and neither are tokens that name no side."""
    judge = alpaca_eval.evaluator(WEIGHTED)
    assert judge.preference(Reply("m")) is None
    assert judge.preference(Reply("x", logprobs=({"x": -0.1},))) is None


def test_evaluators_that_do_not_exist_or_call_functions_are_refused():
    """The names there are, or the reason, are given."""
    with pytest.raises(PlumblineError, match="unknown evaluator of alpaca_eval"):
        alpaca_eval.evaluator("weighted_alpaca_eval")
    with pytest.raises(PlumblineError, match="asks by function calls"):
        alpaca_eval.evaluator("alpaca_eval_cot_gpt4_turbo_fn")
