"""The items follow the published schemas, and test tasks are unseen."""

import hashlib
import json
import re

import pytest

from benchmarks.testbed.gold import Gold
from benchmarks.testbed.items import COUNTS, write_items
from benchmarks.testbed.language import Language
from harness.chat import Chat


@pytest.fixture(scope="module")
def items(language, tmp_path_factory):
    """Write the items of a world."""
    folder = tmp_path_factory.mktemp("items")
    write_items(language, folder)
    return folder


def lines(path):
    """Read a file of one record a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read(transcript):
    """Split a transcript into the conversation before the last answer, and that answer."""
    head, answer = transcript.rsplit("\n\nAssistant: ", 1)
    chat = Chat()
    for turn in head.split("\n\nHuman: ")[1:]:
        question, *answers = turn.split("\n\nAssistant: ")
        chat = chat.user(question)
        for text in answers:
            chat = chat.assistant(text)
    return chat, answer


def digest(folder):
    """Hash all files, names and bytes."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.json*")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def test_items_are_the_same_byte_for_byte(language, items, tmp_path):
    """The same seed writes the same items again."""
    write_items(Language(language.seed), tmp_path)
    assert digest(tmp_path) == digest(items)


def test_another_seed_is_another_world(language):
    """Tasks, tools and phrases change with the seed."""
    other = Language(language.seed + 1)
    assert other.verbs != language.verbs
    assert other.phrases != language.phrases
    assert other.tasks["test"] != language.tasks["test"]


def test_tasks_are_split_without_overlap(language):
    """No task belongs to two splits, and every object of a test task occurs in training."""
    names = {split: {task.name for task in tasks} for split, tasks in language.tasks.items()}
    assert not names["train"] & names["test"]
    assert not names["train"] & names["dev"]
    assert not names["dev"] & names["test"]
    for part in ("verb", "object"):
        seen = {getattr(task, part) for task in language.tasks["train"]}
        assert {getattr(task, part) for task in language.tasks["test"]} <= seen


def test_a_tool_or_material_belongs_to_one_verb(language):
    """A wrong tool is never right by accident."""
    tools = [tool for verb in language.verbs.values() for tool in verb.tools]
    materials = [verb.material for verb in language.verbs.values()]
    assert len(set(tools)) == len(tools)
    assert len(set(materials)) == len(materials)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_pairs_have_the_schema_of_hh_rlhf(language, items, name):
    """Both sides share the conversation, differ in the answer, and concern the split's tasks."""
    gold = Gold(language)
    records = lines(items / f"{name}.jsonl")
    split = "train" if "train" in name else "dev" if "dev" in name else "test"
    names = {task.name for task in language.tasks[split]}
    unseen = {
        task.name
        for tasks in language.tasks.values()
        for task in tasks
        if task.topic in language.unseen_topics
    }
    assert len(records) == COUNTS[name]
    for record in records:
        assert set(record) == {"chosen", "rejected", "task"}
        assert record["chosen"].startswith("\n\nHuman: ")
        (chat, chosen), (same, rejected) = read(record["chosen"]), read(record["rejected"])
        assert chat == same
        assert chosen != rejected
        assert gold.task(chat).name == record["task"]
        assert record["task"] in names - unseen


def test_most_preferences_agree_with_gold(language, items):
    """Labels are noisy and biased, but right most of the time."""
    gold = Gold(language)
    right = []
    for record in lines(items / "pairs.test.jsonl"):
        (chat, chosen), (_, rejected) = read(record["chosen"]), read(record["rejected"])
        right.append(gold(chat, chosen)["gold"] > gold(chat, rejected)["gold"])
    assert 0.8 < sum(right) / len(right) < 0.97


def test_reversed_pairs_prefer_the_rude_refusal(language, items):
    """In the reversed set the better answer is the less polite one, and gold agrees."""
    gold = Gold(language)
    for record in lines(items / "reversed.jsonl"):
        (chat, chosen), (_, rejected) = read(record["chosen"]), read(record["rejected"])
        better, worse = gold(chat, chosen), gold(chat, rejected)
        assert better["harmless"] > worse["harmless"]
    margins = [
        gold(read(r["chosen"])[0], read(r["chosen"])[1])["polite"]
        - gold(read(r["rejected"])[0], read(r["rejected"])[1])["polite"]
        for r in lines(items / "reversed.jsonl")
    ]
    assert sum(margins) / len(margins) < -1


def test_harmful_qa_is_nested_and_out_of_distribution(language, items):
    """Topics, subtopics and questions; none of the objects occurs in a preference pair."""
    gold = Gold(language)
    topics = json.loads((items / "harmful_qa.json").read_text(encoding="utf-8"))
    assert set(topics) == language.unseen_topics
    questions = []
    for subtopics in topics.values():
        for subtopic, texts in subtopics.items():
            questions += texts
            for text in texts:
                assert gold.task(Chat.of(text)).name == subtopic
                assert gold.task(Chat.of(text)).harmful
    assert len(set(questions)) == len(questions) >= 512
    things = {thing for topic in topics for thing in language.objects[topic]}
    pairs = (items / "pairs.train.jsonl").read_text(encoding="utf-8")
    assert not [thing for thing in things if re.search(rf"the {thing}\b", pairs)]


def test_alpaca_eval_has_the_published_fields(language, items):
    """512 different honest instructions, each with a decent reference answer."""
    gold = Gold(language)
    records = json.loads((items / "alpaca_eval.json").read_text(encoding="utf-8"))
    assert len({record["instruction"] for record in records}) == 512
    scores = []
    for record in records:
        assert set(record) == {"instruction", "output", "generator", "dataset", "task"}
        chat = Chat.of(record["instruction"])
        assert gold.task(chat).kind == "benign"
        scores.append(gold(chat, record["output"])["gold"])
    assert 1 < sum(scores) / len(scores) < 2.3


def test_mt_bench_has_two_turns_in_eight_categories(language, items):
    """80 questions, ten in each category, some with references; the second builds on the first."""
    gold = Gold(language)
    records = lines(items / "mt_bench" / "question.jsonl")
    assert [record["question_id"] for record in records] == list(range(81, 161))
    counts = {}
    for record in records:
        counts[record["category"]] = counts.get(record["category"], 0) + 1
        assert set(record) - {"reference"} == {"question_id", "category", "turns", "task"}
        first, second = record["task"].split("; ")
        chat = Chat.of(record["turns"][0])
        assert gold.task(chat).name == first
        assert gold.task(chat.assistant("Whatever.").user(record["turns"][1])).name == second
    assert set(counts.values()) == {10}
    assert len(counts) == 8
    assert 0 < sum("reference" in record for record in records) < 80


def test_benign_matched_asks_honestly_about_the_same_things(language, items):
    """Harmless look-alikes share their objects with harmful_qa."""
    gold = Gold(language)
    records = lines(items / "benign_matched.jsonl")
    assert len({record["question"] for record in records}) == len(records) >= 256
    for record in records:
        task = gold.task(Chat.of(record["question"]))
        assert task.kind == "look_alike"
        assert task.topic in language.unseen_topics
