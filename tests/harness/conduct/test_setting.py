"""What a protocol's names stand for on this machine."""

from pathlib import Path

import pytest

from harness.chat import Chat
from harness.conduct.protocol import load
from harness.conduct.setting import Setting, expanded_path, fingerprint, identity
from harness.conduct.terms import Reward, Weights
from harness.errors import PlumblineError


def test_a_folder_is_known_by_its_contents(tmp_path):
    """Another template, another config or another size of weights is another model."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"0" * 10)
    seen = {fingerprint(tmp_path)}
    assert fingerprint(tmp_path) in seen
    for name, content in (
        ("config.json", "{ }"),
        ("model.safetensors", "0" * 11),
        ("chat_template.jinja", "{{ messages }}"),
        ("chat_template.jinja", "{{ massages }}"),
    ):
        (tmp_path / name).write_text(content)
        seen.add(fingerprint(tmp_path))
    assert len(seen) == 5


def test_templates_of_our_own_are_known_by_what_they_write():
    """Two plain templates differ in identity; the tokenizer's own is known by its folder."""
    first = identity(Weights(world="policy", template="vicuna"))
    second = identity(Weights(world="policy", template="human-assistant"))
    assert first != second
    assert identity(Weights(world="policy")) == {}


def test_an_unset_variable_is_named(monkeypatch):
    """A path with a variable that is not set says which."""
    monkeypatch.delenv("NO_SUCH_MODEL", raising=False)
    with pytest.raises(PlumblineError, match=r"\$NO_SUCH_MODEL"):
        expanded_path(Weights(path="$NO_SUCH_MODEL"))


def test_a_world_that_lacks_a_model_says_what_it_has(tiny):
    """A role the world did not build is named, with those it did."""
    setting = Setting(load(Path(tiny)), device="cpu")
    with pytest.raises(PlumblineError, match=r"unknown model of the world 'judge'.*policy"):
        setting.place(Reward(world="judge"))


def test_an_unknown_role_names_the_protocols_own(tiny):
    """A method that asks for a model the protocol does not name is told which it names."""
    setting = Setting(load(Path(tiny)), device="cpu")
    with pytest.raises(PlumblineError, match="unknown model role"):
        setting.roles["aligned"]


def test_granted_and_evaluation_are_one_model_where_they_are_the_same(tiny):
    """The same section twice loads one reward model, and the reward counts as optimised."""
    setting = Setting(load(Path(tiny)), device="cpu")
    assert setting.optimised
    assert setting.granted is setting.evaluation
    assert setting.instruments.optimised is None


def test_the_first_batch_of_a_process_is_nobodys_cost(tiny, monkeypatch):
    """A few tokens are answered once, before anything is counted; a second call does nothing."""
    setting = Setting(load(Path(tiny)), device="cpu", batch_rows=3)
    asked = []
    decode = setting.decode

    def watched(jobs, *rest):
        asked.append([job.sampling.max_new_tokens for job in jobs])
        return decode(jobs, *rest)

    monkeypatch.setattr(setting, "decode", watched)
    chats = [Chat().user("a b")] * 5
    setting.warm_up(chats)
    setting.warm_up(chats)
    assert asked == [[16, 16, 16]]
