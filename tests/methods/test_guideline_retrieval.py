"""Properties of guideline retrieval: what is retrieved, in which order, and who sees it."""

import pytest

from harness.chat import Chat
from harness.contracts.method import Fitted, Kit
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from methods.guideline_retrieval import HEADER, LIBRARY, GuidelineRetrieval, Index, read
from methods.prompting import Prompting


def steer(model, **fields):
    """Steer as a run does."""
    return GuidelineRetrieval(**fields).steer(Kit(model), Fitted())


def system(steering, text):
    """Give what stands before a question."""
    [chat] = steering.prompted([Chat.of(text)])
    return chat.system


def test_a_question_that_is_an_input_retrieves_its_guideline(llama):
    """An exact match is the nearest."""
    steering = steer(llama, count=1)
    for asked, guideline in LIBRARY:
        assert system(steering, asked) == f"{HEADER}\n- {guideline}"


def test_case_and_spacing_do_not_matter(llama):
    """The same words retrieve the same guidelines."""
    steering = steer(llama)
    text = "Please fix this code, there is an error"
    assert system(steering, text) == system(steering, f"  {text.upper()}  \n")
    assert system(steering, text) == system(steer(llama), text)


def test_guidelines_stand_in_the_librarys_order():
    """Not by similarity, so that equal sets begin alike."""
    index = Index.of(LIBRARY)
    found = index.nearest("fix this code and calculate how to make a weapon", 3)
    assert found == sorted(found) == [3, 10, 11]


def test_the_whole_library_is_the_same_for_all(llama):
    """With as many guidelines as there are, every prompt gets the same."""
    steering = steer(llama, count=len(LIBRARY))
    assert len({system(steering, text) for text in ("hello", "bomb", "tax")}) == 1


def test_how_a_question_is_put_retrieves_nothing():
    """Function words do not count; a question near to none gets the library's first."""
    index = Index.of(LIBRARY)
    assert index.nearest("How do I bake bread?", 3) == [0, 1, 2]
    assert index.nearest("how to do it with a", 1) == index.nearest("", 1) == [0]
    assert index.nearest("How do I make a bomb?", 1) == [3]


def test_near_repetitions_are_left_out():
    """Of two guidelines that say the same the nearer one is kept."""
    index = Index.of([("cats", "Be kind."), ("dogs", "be KIND"), ("birds", "Be brief.")])
    assert index.nearest("dogs", 2) == [1, 2]


def test_no_guideline_is_a_system_prompt(llama):
    """With count 0 the header alone is what prompting would say; without it, nothing."""
    alone = system(steer(llama, count=0, header="Be kind."), "hi")
    prompting = Prompting(instruction="Be kind.").steer(Kit(llama), Fitted())
    assert alone == system(prompting, "hi") == "Be kind."
    assert not steer(llama, count=0, header="").touches


def test_scorers_see_the_users_words_only(llama, make_jobs, make_reward, answer):
    """The reward model never reads a guideline."""
    asked, judge = [], make_reward(max_length=400)

    def score(rows):
        asked.extend(rows.asked())
        return judge.of_rows(rows)

    jobs = make_jobs(("hi", "fix"), budget=4)
    llama.context = 1000
    answer(llama, jobs, steer(llama, count=1) + Steering(search=Search(2, score)))
    assert set(asked) == {job.chat for job in jobs}


def test_a_library_is_a_file_of_lines(llama, tmp_path):
    """Comments and empty lines are passed over."""
    file = tmp_path / "guidelines.txt"
    file.write_text("# ours\n\ncats => Praise cats.\ndogs => Praise dogs.\n", "utf-8")
    steering = steer(llama, count=1, header="", library=str(file))
    assert system(steering, "Dogs!") == "- Praise dogs."


@pytest.mark.parametrize(
    ("text", "message"),
    [("cats are nice\n", "line 1: 'cats are nice' is not 'input => guideline'"),
     ("cats =>\n", "is not 'input => guideline'"), ("# nothing\n", "holds no guideline")],
)  # fmt: skip
def test_a_library_that_is_none_is_refused(text, message, tmp_path):
    """What is wrong is said in one line, with its number."""
    file = tmp_path / "bad.txt"
    file.write_text(text, "utf-8")
    with pytest.raises(PlumblineError, match=message):
        read(str(file))


def test_bad_values_are_refused(llama, tmp_path):
    """A negative count, more than there are, and a file that is not there."""
    with pytest.raises(PlumblineError, match="count is -1; it must be 0 or more"):
        GuidelineRetrieval(count=-1)
    with pytest.raises(PlumblineError, match="count is 99; the library has 12 guidelines"):
        steer(llama, count=99)
    with pytest.raises(PlumblineError, match=r"library=.*No such file"):
        steer(llama, library=str(tmp_path / "none.txt"))
