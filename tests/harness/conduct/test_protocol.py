"""Protocol files: what they say, how they are hashed, what is refused."""

from pathlib import Path

import pytest

from harness.conduct import protocol
from harness.conduct.protocol import Protocol
from harness.errors import PlumblineError

BASE = """
[about]
text = "A protocol."
[model]
world = "testbed"
[rewards]
granted = { world = "reward" }
[data.hh_rlhf]
world = "hh_rlhf"
[sampling]
temperature = 1.0
"""
SHA = "0" * 40


def load(folder: Path, text: str = BASE, name: str = "mine") -> Protocol:
    """Write and load a protocol."""
    file = folder / f"{name}.toml"
    file.write_text(text)
    return protocol.load(file)


def test_sections_left_out_have_defaults(tmp_path: Path) -> None:
    """A short protocol is a whole one."""
    sections = load(tmp_path).sections
    assert sections.seeds.sampling == [0]
    assert sections.rewards.granted is not None
    assert sections.rewards.evaluation is None
    assert sections.tuning.trials == 0


def test_sampling_precedence(tmp_path: Path) -> None:
    """A benchmark's section stands over [sampling], which stands over the set's own rule."""
    made = load(tmp_path, BASE + "top_k = 40\n[sampling.hh_rlhf]\ntop_k = 7\n")
    own = {"temperature": 0.0, "top_p": 0.9}
    assert made.draw("hh_rlhf", own) == {"temperature": 1.0, "top_p": 0.9, "top_k": 7}
    assert made.draw("mt_bench", own) == {"temperature": 1.0, "top_p": 0.9, "top_k": 40}
    assert made.draw(None, {}) == {"temperature": 1.0, "top_k": 40}


def test_the_terms_hash_leaves_out_judging_about_seeds_and_data_only(tmp_path: Path) -> None:
    """Re-judging, another seed or one more benchmark keep old runs; other terms do not."""
    before = load(tmp_path).terms_hash({})
    same = BASE.replace("A protocol.", "Other words.") + (
        '[judging.j]\nbackend = "world"\n[seeds]\nsampling = [0, 1]\n'
        '[data.mt_bench]\nworld = "mt_bench"\n'
    )
    assert load(tmp_path, same).terms_hash({}) == before
    assert load(tmp_path, same).file_hash != load(tmp_path).file_hash
    for change in (
        BASE.replace("1.0", "0.7"),
        BASE.replace('world = "testbed"', 'world = "testbed"\nworld_seed = 1'),
        BASE.replace('granted = { world = "reward" }', ""),
        BASE + "[training]\ncount = 5\n",
    ):
        assert load(tmp_path, change).terms_hash({}) != before


def test_two_templates_of_one_name_are_other_terms(tmp_path: Path) -> None:
    """What a name stands for on this machine is part of the hash."""
    made = load(tmp_path)
    assert made.terms_hash({"template": "a"}) != made.terms_hash({"template": "b"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BASE + "[sampling.hh_rlfh]\ntop_k = 1\n", "Did you mean 'hh_rlhf'"),
        (BASE + "[samplin]\n", "Did you mean 'sampling'"),
        (BASE.replace("temperature", "temprature"), "Did you mean 'temperature'"),
        (BASE.replace("= 1.0", "= '1'"), "[sampling] temperature"),
        (BASE.replace("= 1.0", "= -1.0"), "greater than or equal to 0"),
        (BASE.replace('[about]\ntext = "A protocol."', ""), "about: missing"),
        (BASE.replace('world = "testbed"', ""), "[model]: give either"),
        (BASE.replace("granted", "grantd"), "Did you mean 'granted'"),
        (BASE.replace('{ world = "reward" }', '{ path = "org/rm" }'), "no revision"),
        (
            BASE.replace('{ world = "reward" }', '{ path = "org/rm", revision = "main" }'),
            "unpinned = true",
        ),
        (BASE.replace('world = "testbed"', f'path = "org/m"\nrevision = "{SHA}"'), "no world"),
        (BASE + '[data.mt_bench]\ndataset = "org/set"\n', "no revision"),
        (BASE + '[data.mt_bench]\ndataset = "a"\nfile = "b"\n', "exactly one"),
        (BASE + '[data.mt_bench]\nworld = "a"\nspli = "b"\n', "Did you mean 'split'"),
        (BASE + '[judging.j]\nbackend = "telepathy"\n', "'world', 'local' or 'openai'"),
        (BASE + '[judging.j]\nbackend = "openai"\n', "needs model"),
        (BASE + '[judging.j]\nbackend = "world"\nprice_in = 1\n', "both price_in"),
        (BASE + '[judging.j]\nbackend = "local"\n', "needs path"),
        (BASE + '[judging.j]\nbackend = "world"\nbenchmarks = ["x"]\n', "unknown benchmark"),
        (BASE + "[seeds]\nsampling = []\n", "at least 1"),
        ("[about\n", "not valid TOML"),
    ],
)
def test_faults_are_one_line_naming_file_section_and_field(
    tmp_path: Path, text: str, says: str
) -> None:
    """Every mistake in a protocol is one line that says where and what is accepted."""
    with pytest.raises(PlumblineError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert says in message
    assert "mine.toml" in message
    assert "\n" not in message.replace(str(tmp_path), "")


def test_an_unpinned_revision_is_allowed_when_owned_up_to_and_is_recorded(tmp_path: Path) -> None:
    """Saying unpinned = true lets a moving revision through, and the protocol can name it."""
    text = BASE.replace(
        '{ world = "reward" }', '{ path = "org/rm", revision = "main", unpinned = true }'
    )
    assert load(tmp_path, text).unpinned == ["rewards.granted"]
    assert load(tmp_path).unpinned == []


def test_a_local_folder_needs_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on this machine, also one named by an environment variable, is taken as it is."""
    monkeypatch.setenv("SOME_MODEL", str(tmp_path))
    text = '[about]\ntext = "x"\n[model]\npath = "$SOME_MODEL"\n[data.hh_rlhf]\nfile = "a.jsonl"\n'
    assert load(tmp_path, text).sections.model.local
