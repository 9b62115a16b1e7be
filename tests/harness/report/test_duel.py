import csv
import json

import numpy as np
import pytest
from scipy import stats
from toystore import run_spec, wave, write_run

from harness.errors import PlumblineError
from harness.report import duel, side_by_side

COUNT = 12
JUDGE = "win_rate@j"
TERMS = "runs/toy-7c0d1e44b2/hh_rlhf"


def verdict(value):
    """A verdict as stored."""
    if value is None:
        return {"value": None, "outcome": "unparsed"}
    return {"value": value, "outcome": "tie" if value == 0.5 else "ok"}


def add(results, method, gold, said=None, texts=None, **changes):
    """Write one row; give its folder."""
    scores = {"gold": list(gold)}
    if said is not None:
        scores[JUDGE] = [verdict(v) for v in said]
    prompts = changes.pop("prompts", len(scores["gold"]))
    folder = write_run(results, run_spec("hh_rlhf", method, **changes), scores, prompts=prompts)
    if texts:
        lines = (folder / "responses.jsonl").read_text("utf-8").splitlines()
        lines = [json.dumps(json.loads(one) | {"text": text})
                 for one, text in zip(lines, texts, strict=True)]  # fmt: skip
        (folder / "responses.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture
def results(tmp_path):
    """Two rows judged against a third, and that third."""
    base = np.array(wave(COUNT, 0.0))
    add(tmp_path, "unsteered", base, [0.5] * COUNT)
    add(tmp_path, "first", base + 1, [1.0] * 8 + [0.5, 0.5, 0.0, None])
    add(tmp_path, "second", base + 0.5, [1.0] * 2 + [0.0] * 4 + [1.0, 1.0, 0.5, 1.0, 0.0, 1.0])
    return tmp_path


def held(results, a="first", b="second"):
    """Hold two rows of the toy store against each other."""
    (found,) = duel.duels(duel.find(results, "toy", a), duel.find(results, "toy", b))
    return found


def test_two_rows_by_hand(results):
    """Differences on what both have; flips are verdicts that differ; strict wins by McNemar."""
    found = held(results)
    assert found.headline == "gold"
    assert found.contests["gold"].difference.value == pytest.approx(0.5)
    judge = found.contests[JUDGE]
    assert duel.flips(found, JUDGE) == [2, 3, 4, 5, 9]
    assert judge.test == "McNemar"
    assert judge.p == pytest.approx(stats.binomtest(4, 5).pvalue)
    assert judge.difference.n == COUNT - 1


def test_turned_round_everything_is_turned_round(results):
    """B beside A is A beside B with the sign changed."""
    there, back = held(results), held(results, "second", "first")
    one, other = there.contests["gold"].difference, back.contests["gold"].difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert there.contests[JUDGE].p == back.contests[JUDGE].p


def test_against_the_opponent_wins_are_held_against_losses(results):
    """The row that the judge compared with has no verdicts of its own: the other's are its."""
    found = held(results, "first", "unsteered").contests[JUDGE]
    assert found.direct
    assert found.p == pytest.approx(stats.binomtest(8, 9).pvalue)
    assert duel.flips(held(results, "first", "unsteered"), JUDGE) == [10]
    assert held(results, "unsteered", "first").contests[JUDGE].p == found.p


def test_a_run_folder_is_a_row(results):
    """The folder of a run stands for its row; one without a spec is refused."""
    folder = next((results / TERMS / "first").iterdir())
    assert duel.find(results, "toy", str(folder))["hh_rlhf"].label == "first"
    with pytest.raises(PlumblineError, match=r"no run folder"):
        duel.find(results, "toy", str(folder.parent))
    (folder / "done").unlink()
    with pytest.raises(PlumblineError, match="not finished"):
        duel.find(results, "toy", str(folder))


@pytest.mark.parametrize(
    ("name", "only", "match"),
    [("frist", "", "did you mean 'first'|first"), ("first", "mt_bench", "share no benchmark")],
)
def test_what_is_not_there_is_named(results, name, only, match):
    """An unknown label shows what there is; a benchmark that nobody ran is said."""
    with pytest.raises(PlumblineError, match=match):
        duel.duels(duel.find(results, "toy", name), duel.find(results, "toy", "second"), only)


def test_rows_over_unlike_prompts(tmp_path):
    """What only one answered is left out and counted; unlike questions of one name are refused."""
    add(tmp_path, "first", wave(8, 0.0))
    folder = add(tmp_path, "second", wave(12, 1.0), limit=12)
    found = held(tmp_path)
    assert (len(found.seen), found.alone) == (8, 4)
    text = (folder / "prompts.jsonl").read_text("utf-8").replace("question", "riddle")
    (folder / "prompts.jsonl").write_text(text, "utf-8")
    with pytest.raises(PlumblineError, match="unlike questions under the name"):
        held(tmp_path)


def test_categories_stand_by_how_far_they_part(results):
    """Within each category the headline's difference, the widest first."""
    for folder in results.glob(f"{TERMS}/*/*"):
        lines = [json.loads(x) for x in (folder / "prompts.jsonl").read_text().splitlines()]
        for i, one in enumerate(lines):
            one["category"] = "even" if i % 2 == 0 else "odd"
        (folder / "prompts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    gold = next((results / TERMS / "first").iterdir()) / "scores.gold.jsonl"
    lines = [json.loads(x) for x in gold.read_text().splitlines()]
    for one in lines[1::2]:
        one["value"] += 3
    gold.write_text("".join(json.dumps(x) + "\n" for x in lines))
    found = duel.by_category(held(results))
    assert list(found) == ["odd", "even"]
    assert found["odd"].value == pytest.approx(3.5)
    assert set(duel.furthest(held(results))[:6]) == {1, 3, 5, 7, 9, 11}


def test_the_page_shows_flips_with_both_answers(tmp_path):
    """Model text cannot leave its line, open a tag or a table; a long one is cut and says so."""
    nasty = ["| a | <b>\n# title\n`x` " + "long " * 300] * COUNT
    base = np.array(wave(COUNT, 0.0))
    add(tmp_path, "first", base + 1, [1.0] * COUNT, nasty)
    add(tmp_path, "second", base, [0.0] * 6 + [1.0] * 6, ["=1+1"] * COUNT)
    found = duel.duels(duel.find(tmp_path, "toy", "first"), duel.find(tmp_path, "toy", "second"))
    paths = side_by_side.write(found, tmp_path / "compare" / "toy")
    assert [path.suffix for path in paths] == [".csv", ".md"]
    text = paths[-1].read_text("utf-8")
    assert "6 flips by j" in text
    assert "<b>" not in text
    assert "\n# title" not in text
    assert "characters more)" in text
    assert "**A (gold 2.00; win\\_rate@j won)**" in text or "win_rate@j won" in text
    rows = list(csv.DictReader(paths[0].read_text("utf-8").splitlines()))
    assert len(rows) == COUNT + 2
    assert sum(int(row[f"{JUDGE}_flip"] or 0) for row in rows) == 6
    assert rows[0]["answer_B"] == "'=1+1"
    assert rows[-1]["prompt"] == "(all)"
    assert "A − B on gold: +1.0" in side_by_side.sentence(found[0])


def test_rows_without_a_common_scorer_still_stand_beside_each_other(tmp_path):
    """Without a headline there is no difference, and the page says only what there is."""
    write_run(tmp_path, run_spec("hh_rlhf", "first"), {"length": wave(8, 0.0)}, prompts=8)
    write_run(tmp_path, run_spec("hh_rlhf", "second"), {"gold": wave(8, 0.0)}, prompts=8)
    found = held(tmp_path)
    assert found.contests == {}
    assert "no headline in common" in side_by_side.sentence(found)
    assert side_by_side.write([found], tmp_path / "out")[-1].is_file()


def test_a_long_label_makes_a_file_all_the_same(tmp_path):
    """A label of any length and any letters names a file that the system takes."""
    label = "best_of_n(n=4)+" * 30 + "ünï/cødé"
    for method in (label, "second"):
        add(tmp_path, method, wave(8, 0.0), stack=[{"name": "x", "settings": {}}],
            sampling={"temperature": float(len(method))})  # fmt: skip
    found = [held(tmp_path, label, "second")]
    assert side_by_side.write(found, tmp_path / "out")[-1].is_file()
