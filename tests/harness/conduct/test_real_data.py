"""A trained model's folder and a real data file, from the command line to the table."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import store

COUNT = 256

PROTOCOL = """
[about]
text = "Folders of this machine: a trained model, a classifier of its width, real conversations."
[model]
path = "{model}"
template = "human-assistant"
[rewards]
granted = {{ path = "{granted}", template = "human-assistant" }}
evaluation = {{ path = "{evaluation}", template = "human-assistant" }}
[data.hh_rlhf]
file = "{data}"
[sampling]
temperature = 1.0
max_new_tokens = 64
"""


@pytest.fixture(scope="module")
def conversations():
    """Give the real harmless test file of HH-RLHF, or skip where it is absent."""
    shared = Path(__file__).parents[4] / "shared"
    file = shared / "data" / "hh_rlhf" / "harmless-base.test.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"the real data file {file.name} is not on this machine")
    return file


@pytest.fixture(scope="module")
def protocol(stories, conversations, tmp_path_factory):
    """Write a protocol over the model's folder, the real file and two tiny classifiers."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("local")
    tokenizer = AutoTokenizer.from_pretrained(stories)
    places = {}
    for seed, name in enumerate(("granted", "evaluation")):
        told = LlamaConfig.from_pretrained(stories, num_labels=1, num_hidden_layers=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            LlamaForSequenceClassification(told).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        places[name] = folder / name
    file = folder / "stories.toml"
    file.write_text(PROTOCOL.format(model=stories, data=conversations, **places))
    return file


@pytest.mark.slow
def test_real_conversations_run_end_to_end_on_a_trained_model(protocol, tmp_path):
    """The first 256 prompts that fit are answered and scored, the others counted, a table made."""
    words = ["bench", "-m", "best_of_n(n=2)", "--protocol", protocol, "--limit", COUNT]
    result = CliRunner().invoke(app, [str(w) for w in (*words, "--output_path", tmp_path)])
    assert result.exit_code == 0, result.stderr
    table = Path(result.stdout.strip().splitlines()[-1].split()[-1])
    assert table.is_file()
    folders = sorted(p.parent for p in tmp_path.glob("runs/*/hh_rlhf/*/*/spec.json"))
    assert len(folders) == 2  # best-of-2, and unsteered for it to be held against
    for folder in folders:
        answers = list(store.responses(folder))
        assert len(answers) == COUNT
        assert len({a.text for a in answers}) > COUNT / 2
        for column in ("reward", "optimised_reward"):
            scores = store.scores(folder, column).values()
            assert [s.outcome for s in scores] == ["ok"] * COUNT
            assert len({s.value for s in scores}) > COUNT / 2
    page = " ".join((table.parent / "hh_rlhf.md").read_text().split())
    assert "exceed the model's context of 512 (left out)" in page
    assert f"{COUNT}" in page
