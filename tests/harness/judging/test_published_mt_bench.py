"""MT-Bench as published: parsed judge texts, averages, prompts, and verdicts in two orders."""

import csv
import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from harness.judging import fastchat

DATA = Path(__file__).parents[4] / "shared" / "data" / "mt_bench"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs published MT-Bench judgments")

MODELS = ("llama2_7b", "llama-2-chat-7b", "claude-3-opus-20240229", "gemini-1.5-flash")
AVERAGES = {
    "llama2_7b": ("4.7625", "3.1750", "3.9688"),
    "llama-2-chat-7b": ("6.8688", "5.9437", "6.4062"),
    "claude-3-opus-20240229": ("9.0437", "8.3063", "8.6750"),
    "gemini-1.5-flash": ("9.0750", "8.4625", "8.7688"),
}
JUDGES = {"GPT-4o-mini": (399, 1193), "Qwen-14B": (541, 1200), "Gemma-4-12B": (234, 1180)}


def lines(name):
    """Read JSON lines, packed or not."""
    path = DATA / name
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def by_question(records):
    """Give each question's turns: of the question itself, or of an answer."""
    return {
        r["question_id"]: r["choices"][0]["turns"] if "choices" in r else r["turns"]
        for r in records
    }


def score(text):
    """Give a score as FastChat stores it: -1 where there is none."""
    found = fastchat.rating(text)
    return -1 if found is None else found


@pytest.mark.parametrize("model", MODELS)
def test_parsed_ratings_equal_the_stored_scores(model):
    """All 160 judge texts of a model; none of them is without a rating."""
    records = lines(f"gpt4_single/{model}.judgments.jsonl.gz")
    assert len(records) == 160
    assert [score(r["judgment"]) for r in records] == [r["score"] for r in records]
    assert all(r["score"] > 0 for r in records)


def test_texts_without_a_rating_are_those_with_no_score():
    """960 mixed texts, 248 of them without a rating."""
    records = lines("gpt4_single/mixed_judgments.no_prompts.jsonl.gz")
    assert [score(r["judgment"]) for r in records] == [r["score"] for r in records]
    assert sum(r["score"] == -1 for r in records) == 248


@pytest.mark.parametrize("model", MODELS)
def test_averages_equal_the_published_ones(model):
    """By turn and over both, to the printed digit."""
    records = lines(f"gpt4_single/{model}.judgments.jsonl.gz")
    found = []
    for turns in ((1,), (2,), (1, 2)):
        scores = [s for r in records if r["turn"] in turns if (s := score(r["judgment"])) >= 0]
        found.append(sum(scores) / len(scores))
    assert found == pytest.approx([float(p) for p in AVERAGES[model]], abs=0.5e-4 + 1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_rendered_single_prompts_equal_the_stored_ones(model):
    """FastChat's template with question, answer and reference: 160 of 160."""
    prompts = fastchat.read_prompts(DATA / "judge_prompts.jsonl")
    questions = {r["question_id"]: r for r in lines("question.jsonl")}
    references = by_question(lines("reference_answer/gpt-4.jsonl"))
    answers = by_question(lines(f"gpt4_single/{model}.answers.jsonl.gz"))
    equal = 0
    for record in lines(f"gpt4_single/{model}.judgments.jsonl.gz"):
        asked = questions[record["question_id"]]
        turn = record["turn"] - 1
        name = fastchat.prompt_name("single", asked["category"], turn)
        assert name == record["judge"][1]
        values = fastchat.values(
            asked["turns"],
            {"answer": answers[record["question_id"]]},
            references.get(record["question_id"], ()),
            turn,
        )
        equal += prompts[name].render(values) == record["user_prompt"]
    assert equal == 160


def test_rendered_pair_prompts_and_winners_equal_the_stored_ones():
    """75 pairs in both orders: prompts, and winners by order."""
    prompts = fastchat.read_prompts(DATA / "judge_prompts.jsonl")
    questions = {r["question_id"]: r for r in lines("question.jsonl")}
    references = by_question(lines("reference_answer/gpt-4.jsonl"))
    sides = [by_question(lines(f"gpt4_pair/{m}.answers.jsonl.gz")) for m in ("phi-3", "phi-3-dpo")]
    records = lines("gpt4_pair/phi-3_vs_phi-3-dpo.judgments.jsonl.gz")
    assert len(records) == 75
    for record in records:
        number = record["question_id"]
        name = fastchat.prompt_name("pair", questions[number]["category"], 0)
        assert name == record["judge"][1]
        for game, (a, b) in (("g1", sides), ("g2", sides[::-1])):
            values = fastchat.values(
                questions[number]["turns"],
                {"answer_a": a[number], "answer_b": b[number]},
                references.get(number, ()),
                0,
            )
            assert prompts[name].render(values) == record[f"{game}_user_prompt"]
            verdict = fastchat.winner(record[f"{game}_judgment"])
            first, second = ("model_1", "model_2") if game == "g1" else ("model_2", "model_1")
            by_letter = {"A": first, "B": second, "tie": "tie", None: "error"}
            assert by_letter[verdict] == record[f"{game}_winner"]


@pytest.mark.parametrize("judge", JUDGES)
def test_pairwise_winners_and_inconsistency_reproduce(judge):
    """Every stored winner from the two texts, and the published count of disagreeing orders."""
    records = lines(f"mt_bench_repro/judgments/{judge}.pairwise.jsonl.gz")
    counts = Counter()
    for r in records:
        verdict = fastchat.together(
            fastchat.winner(r["judgment_ab"]), fastchat.winner(r["judgment_ba"])
        )
        names = {"model_1": r["model_a"], "model_2": r["model_b"]}
        assert names.get(verdict, verdict) == r["winner"]
        counts[verdict] += 1
    valid = len(records) - counts["error"]
    assert (counts["inconsistent"], valid) == JUDGES[judge]
    with (DATA / "mt_bench_repro/published/table5_pairwise_inconsistency.csv").open() as file:
        published = {row["judge"]: row for row in csv.DictReader(file)}[judge]
    assert f"{100 * counts['inconsistent'] / valid:.2f}" == published["en_rate_pct"]


@pytest.mark.parametrize("judge", JUDGES)
def test_single_grades_of_the_replication_reproduce(judge):
    """Stored scores by turn, and the published mean over the valid ones."""
    scores = []
    for r in lines(f"mt_bench_repro/judgments/{judge}.single_grade.jsonl.gz"):
        for turn in ("turn1", "turn2"):
            found = score(r[f"judgment_{turn}"])
            assert found == r[f"score_{turn}"]
            scores += [found] if found >= 0 else []
    with (DATA / "mt_bench_repro/published/table6_single_scores.csv").open() as file:
        published = {row["judge"]: row for row in csv.DictReader(file)}[judge]
    assert f"{sum(scores) / len(scores):.2f}" == published["en_mean"]
    assert len(scores) == int(published["en_valid_scores"])
