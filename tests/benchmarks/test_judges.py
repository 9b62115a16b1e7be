"""The judges that ship: what they ask, and what they read."""

import pytest

from harness.api import Chat, Prompt, Reply, Response
from harness.conduct import plugins
from harness.contracts.judges import Labelled, Pairwise, Single
from harness.contracts.scorer import Answered, alone, facts
from harness.errors import PlumblineError
from harness.judging.wording import reworded

NAMES = [one.name for one in plugins.judges()]
OWN = [name for name in NAMES if "alpaca" not in name and not name.startswith("testbed")]
PROMPT = Prompt(
    "81",
    Chat.of("Hello.").assistant("Hi.").user("What is 2 + 2?"),
    turns=("Double it.",),
    reference="4 it is",
    further=("8 it is",),
    category="math",
)


def item(turn, category="math"):
    """Make an answer to one of two turns."""
    prompt = Prompt(
        PROMPT.id, PROMPT.chat, PROMPT.turns, PROMPT.reference, "", category, PROMPT.further
    )
    chat = PROMPT.chat
    if turn:
        chat = chat.assistant("our first").user("Double it.")
    return Answered(prompt, chat, Response("81", turn, f"ours {turn}", (), "eos"))


def asked(judge, turn=0, category="math"):
    """Give the words the judge is asked in."""
    one = item(turn, category)
    if isinstance(judge, Pairwise):
        a, b = facts(one)["answers"], ["their first", f"theirs {turn}"][-turn - 1 :]
        sides = {"answers_a": a, "answers_b": b, "answer_a": a[-1], "answer_b": b[-1]}
        return judge.ask(facts(one) | sides)
    return judge.ask(alone(one))


def test_the_judges_there_are():
    """Two of AlpacaEval, two for harmful questions, one for dialogues, two of MT-Bench."""
    assert NAMES == [
        "alpaca_eval_gpt4",
        "harmful_qa_pairwise",
        "harmful_qa_safety",
        "hh_rlhf_pairwise",
        "mt_bench_pairwise",
        "mt_bench_single",
        "testbed_pairwise",
        "weighted_alpaca_eval_gpt4_turbo",
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("turn", [0, 1])
def test_every_answer_and_the_question_reach_the_judge(name, turn):
    """Both sides of a pair, or the one answer, with what was asked last."""
    judge = plugins.judge(name)
    words = asked(judge, turn).last_user
    assert ("Double it." if turn else "What is 2 + 2?") in words
    assert f"ours {turn}" in words
    assert not isinstance(judge, Pairwise) or f"theirs {turn}" in words


@pytest.mark.parametrize("name", ["mt_bench_single", "mt_bench_pairwise"])
def test_a_second_turn_is_judged_with_the_first_before_it(name):
    """Both requests, both answers of each side, and both references of math."""
    words = asked(plugins.judge(name), 1).last_user
    found = ["What is 2 + 2?", "our first", "4 it is", "8 it is"]
    found += ["their first"] if name.endswith("pairwise") else []
    assert all(text in words for text in found)
    assert "8 it is" not in asked(plugins.judge(name), 0).last_user


@pytest.mark.parametrize("name", ["mt_bench_single", "mt_bench_pairwise"])
def test_reference_answers_are_for_math_reasoning_and_coding(name):
    """Elsewhere they would make one right answer of many."""
    assert "4 it is" not in asked(plugins.judge(name), 0, "writing").last_user


def test_a_dialogue_is_shown_whole():
    """A judge of dialogues sees the turns before the question."""
    words = asked(plugins.judge("hh_rlhf_pairwise")).last_user
    assert "Person: Hello.\nAssistant: Hi.\nPerson: What is 2 + 2?\n" in words


@pytest.mark.parametrize("name", OWN)
def test_words_without_a_verdict_are_not_read(name):
    """An empty reply, praise for both, and a cut-off one have no verdict."""
    judge = plugins.judge(name)
    read = judge.rule if isinstance(judge, Pairwise) else lambda reply: judge.parse(reply.text)
    for text in ("", "Both answers are good.", "The first answer is [["):
        assert read(Reply(text)) is None


def test_the_safety_judge_has_three_labels_and_wants_one():
    """Safe and helpful is what counts; a refusal and harm are told apart."""
    judge = plugins.judge("harmful_qa_safety")
    assert isinstance(judge, Labelled)
    assert judge.measure == "safe_and_helpful"
    assert dict(judge.labels) == {"refused": 0.0, "harmful": 0.0, "safe_and_helpful": 1.0}
    for label in judge.labels:
        assert judge.parse(f"So it is [[{label.replace('_', ' ')}]].") == label


def test_dialogues_are_marked_from_one_to_ten_in_both_orders():
    """A win is a strictly higher mark."""
    judge = plugins.judge("hh_rlhf_pairwise")
    assert judge.swap
    assert judge.rule(Reply("3 9\nWhy")).share == 1.0
    assert judge.rule(Reply("9 9")).share == 0.5


def test_alpaca_evals_judges_keep_upstreams_single_order():
    """One question an item, weighed by token probabilities where upstream does so."""
    for name, logprobs in (("alpaca_eval_gpt4", 0), ("weighted_alpaca_eval_gpt4_turbo", 5)):
        judge = plugins.judge(name)
        assert (judge.swap, judge.logprobs) == (False, logprobs)


def test_fastchats_prompts_take_the_place_of_our_words(tmp_path):
    """Asked in the file's words with its system sentence, and read by FastChat's parser."""
    path = tmp_path / "judge_prompts.jsonl"
    path.write_text(
        '{"name": "single-math-v1", "type": "single", "system_prompt": "sys", '
        '"prompt_template": "{question} / {ref_answer_1} / {answer}"}\n'
    )
    judge = reworded("mt_bench_single", plugins.judge("mt_bench_single"), path)
    assert isinstance(judge, Single)
    assert asked(judge).to_dicts() == [
        {"role": "system", "content": "sys"},
        {"role": "user", "content": "What is 2 + 2? / 4 it is / ours 0"},
    ]
    assert judge.parse("[[10]]") == 10
    with pytest.raises(PlumblineError, match="unknown judge prompt 'single-v1'"):
        asked(judge, 0, "writing")
    with pytest.raises(PlumblineError, match="only a judge of MT-Bench"):
        reworded("hh_rlhf_pairwise", plugins.judge("hh_rlhf_pairwise"), path)
