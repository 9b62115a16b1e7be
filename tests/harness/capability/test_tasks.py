"""Tasks are found by name, in a folder or in a file; what cannot be had is named."""

import datasets
import pytest

from harness.capability.tasks import find_tasks, shipped
from harness.errors import PlumblineError

TASK = """
task: {name}
dataset_path: {path}
output_type: loglikelihood
test_split: test
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{a}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with one task whose data would come from the Hub."""
    (tmp_path / "far.yaml").write_text(TASK.format(name="far_away", path="nobody/nothing"))
    return tmp_path


def test_shipped_tasks_need_no_network():
    """The project's own tasks load by name, and say whether they are asked in a chat."""
    found = find_tasks("testbed_tools, testbed_steps,testbed_dialogues,testbed_tools")
    assert [one.name for one in found] == ["testbed_tools", "testbed_steps", "testbed_dialogues"]
    assert [one.chat for one in found] == [True, True, False]
    assert [one.scores_likelihoods for one in found] == [True, False, True]
    assert [len(one.tasks[one.name].eval_docs) for one in found] == [256, 192, 96]


def test_a_file_is_a_task(tmp_path):
    """A YAML file's path stands for the task in it, wherever the command is run."""
    (found,) = find_tasks(str(shipped() / "testbed_steps.yaml"))
    assert found.name == "testbed_steps"
    assert list(found.tasks) == ["testbed_steps"]
    with pytest.raises(PlumblineError, match=r"task file .*none\.yaml does not exist"):
        find_tasks(str(tmp_path / "none.yaml"))


def test_an_unknown_task_is_told_its_neighbours():
    """A misspelt name gets the nearest names, ours or lm-eval's, without the long index."""
    with pytest.raises(PlumblineError, match=r"unknown task 'arc_esay'.*Did you mean .*'arc_easy'"):
        find_tasks("arc_esay")
    with pytest.raises(PlumblineError, match=r"Did you mean 'testbed_tools'"):
        find_tasks("testbed_tool")


@pytest.mark.parametrize("names", ["", " , "])
def test_no_task_is_an_error_that_names_those_shipped(names):
    """An empty list of tasks says what there is."""
    with pytest.raises(PlumblineError, match="testbed_dialogues, testbed_steps, testbed_tools"):
        find_tasks(names)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """INCLUDE= must be a folder."""
    with pytest.raises(PlumblineError, match=r"folder of tasks .*none does not exist"):
        find_tasks("testbed_tools", tmp_path / "none")


def test_a_task_whose_data_is_out_of_reach_says_so(folder, monkeypatch):
    """Offline, a task from the Hub names its data, the reason and what needs no Hub."""

    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach 'nobody/nothing' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(PlumblineError) as caught:
        find_tasks("far_away", folder)
    for words in ("task far_away", "nobody/nothing", "Couldn't reach", "Hub", "testbed_tools"):
        assert words in str(caught.value)


def test_a_task_of_lm_evals_own_is_read_from_its_folder(monkeypatch):
    """A name of lm-eval's is found without indexing everything, its data asked for by name."""
    asked = []

    def record(path, **_):
        asked.append(path)
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", record)
    with pytest.raises(PlumblineError, match=r"task arc_easy: its data .allenai/ai2_arc."):
        find_tasks("arc_easy")
    assert asked == ["allenai/ai2_arc"]


def test_a_task_that_is_broken_says_why(tmp_path):
    """A file that lm-eval cannot build is one line with lm-eval's reason."""
    text = TASK.format(name="broken", path="x").replace("loglikelihood", "telepathy")
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(PlumblineError, match=r"task broken cannot be loaded .*telepathy"):
        find_tasks("broken", tmp_path)
