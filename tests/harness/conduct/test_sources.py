"""Raw items from worlds, files and data sets."""

import gzip
import json
import subprocess
import sys
import textwrap
import types

import pytest

from harness.conduct import files
from harness.conduct.files import Item
from harness.conduct.sources import load_items
from harness.conduct.terms import Data
from harness.errors import PlumblineError

SHA = "0123456789abcdef0123456789abcdef01234567"
ROWS = [{"a": 1}, {"a": "two\u2028lines \u201cquoted\u201d"}]


def lines(rows=ROWS) -> bytes:
    """Write an object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def refused(source, world_folder=None) -> str:
    """Give the one line with which a source is refused."""
    with pytest.raises(PlumblineError) as error:
        list(load_items(source, world_folder))
    assert "\n" not in str(error.value)
    return str(error.value)


# -------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", lines()),
        ("x.jsonl", lines().rstrip(b"\n")),
        ("x.jsonl", lines().replace(b"\n", b"\r\n\r\n")),
        ("x.jsonl", b"\xef\xbb\xbf" + lines()),
        ("x.jsonl.gz", gzip.compress(lines())),
        ("x.jsonl", gzip.compress(lines())),
        ("x.json", json.dumps(ROWS, indent=1).encode()),
        ("x.json", lines()),
        ("x.json.gz", gzip.compress(json.dumps(ROWS).encode())),
    ],
)
def test_every_kind_of_file_gives_the_same_items(tmp_path, name, data):
    """Lines or a list, packed or plain, with or without a mark or a last newline."""
    path = tmp_path / name
    path.write_bytes(data)
    assert list(load_items({"file": str(path)}, None)) == ROWS


def test_an_object_is_one_item(tmp_path):
    """A .json file that holds one object gives that object."""
    path = tmp_path / "x.json"
    path.write_text('{"topic": {"sub": ["q?"]}}')
    assert list(load_items({"file": str(path)}, None)) == [{"topic": {"sub": ["q?"]}}]


def test_a_relative_path_is_meant_from_the_current_folder(tmp_path, monkeypatch):
    """What the protocol says is what the shell would find."""
    (tmp_path / "x.jsonl").write_bytes(lines())
    monkeypatch.chdir(tmp_path)
    assert list(load_items({"file": "x.jsonl"}, None)) == ROWS


def test_items_know_their_place(tmp_path):
    """Each item carries its file and line, which messages name; blank lines are counted in."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\n{"a": 1}\n')
    (item,) = load_items({"file": str(path)}, None)
    assert item.where == f"{path}: line 2"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.jsonl", b'{"a": 1}\n{"a": \n', "x.jsonl: line 2: broken JSON"),
        ("x.jsonl", b'{"a": 1}\n[1]\n', "x.jsonl: line 2: a list where an object is expected"),
        ("x.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', "line 2: not UTF-8 (byte 8 of the line is 0xff)"),
        ("x.jsonl", b"", "x.jsonl: no item in it"),
        ("x.jsonl", b"\n\n", "x.jsonl: no item in it"),
        ("x.json", b"[]", "x.json: no item in it"),
        ("x.json", b'[\n{"a": 1},\n{"a" 2}]', "x.json: line 3: broken JSON"),
        ("x.json", b'[{"a": 1}, "b"]', "x.json: entry 2: a string where an object is expected"),
        ("x.json", b'[\n"\xff"]', "x.json: line 2: not UTF-8 (byte 2 of the line is 0xff)"),
        ("x.json", b"3", "x.json: a number where a list or an object is expected"),
        ("x.jsonl.gz", gzip.compress(lines())[:-9], "x.jsonl.gz: cannot be read to its end"),
        ("x.jsonl.gz", b"\x1f\x8bnothing", "x.jsonl.gz: cannot be read to its end"),
    ],
)
def test_a_bad_file_is_one_line_with_its_place(tmp_path, name, data, message):
    """The message names the file, the line and what is wrong there."""
    path = tmp_path / name
    path.write_bytes(data)
    said = refused({"file": str(path)})
    assert message in said
    assert str(path) in said


def test_a_missing_file_is_named_at_once(tmp_path):
    """A file that is not there is refused before anything is read."""
    with pytest.raises(PlumblineError, match=r"gone\.jsonl: no such file"):
        load_items({"file": str(tmp_path / "gone.jsonl")}, None)


def test_references_follow_the_items_and_are_marked(tmp_path):
    """A source may name a second one, whose items say that they are references."""
    for name in ("x", "y"):
        (tmp_path / f"{name}.jsonl").write_bytes(lines([{"name": name}]))
    source = {
        "file": str(tmp_path / "x.jsonl"),
        "references": {"file": str(tmp_path / "y.jsonl")},
    }
    assert [(i["name"], i.reference) for i in load_items(source, None)] == [
        ("x", False),
        ("y", True),
    ]


def test_a_folder_is_read_as_fastchat_lays_it_out(tmp_path):
    """question.jsonl, then reference_answer/ where there is one file in it."""
    (tmp_path / "question.jsonl").write_bytes(lines([{"q": 1}]))
    assert list(load_items({"file": str(tmp_path)}, None)) == [{"q": 1}]
    answers = tmp_path / "reference_answer"
    answers.mkdir()
    (answers / "gpt-4.jsonl").write_bytes(lines([{"r": 1}]))
    assert list(load_items({"file": str(tmp_path)}, None)) == [{"q": 1}, {"r": 1}]
    (answers / "other.jsonl").write_bytes(lines([{"r": 2}]))
    assert "more than one file: gpt-4.jsonl, other.jsonl" in refused({"file": str(tmp_path)})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "needs one of world, file, dataset; this one has nothing"),
        ({"file": "x", "world": "y"}, "needs one of world, file, dataset"),
        ({"file": "x", "split": "test"}, "unknown field of a file source 'split'"),
        ({"dataset": "a/b", "revison": SHA}, "Did you mean 'revision'"),
    ],
)
def test_a_source_that_says_too_much_or_too_little_is_refused(source, message):
    """Exactly one kind, and only the fields of that kind."""
    assert message in refused(source)


@pytest.mark.parametrize(
    "section",
    [
        {"file": "x.jsonl", "references": {"file": "y.jsonl"}},
        {"world": "mt_bench"},
        {"dataset": "org/name", "revision": SHA, "split": "test", "data_dir": "d"},
        {"dataset": "org/name", "revision": "main", "unpinned": True, "split": "test"},
    ],
)
def test_what_a_protocol_says_of_its_data_reaches_the_source(section):
    """A [data.<benchmark>] table is handed on as it stands, references and all."""
    assert Data(**section).mapping() == section


# ------------------------------------------------------------------- worlds


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("hh_rlhf.jsonl", "hh_rlhf"),
        ("pairs.train.jsonl", "pairs.train"),
        ("alpaca_eval.json.gz", "alpaca_eval"),
        ("mt_bench/question.jsonl", "mt_bench"),
    ],
)
def test_a_worlds_items_are_found_by_name(tmp_path, file, name):
    """The name in the protocol is the file's name under items/ without its endings."""
    path = tmp_path / "items" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(lines()) if file.endswith(".gz") else lines())
    assert list(load_items({"world": name}, tmp_path)) == ROWS


def test_unknown_items_of_a_world_suggest_the_nearest(tmp_path):
    """A misspelt name is met with the names there are."""
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "hh_rlhf.jsonl").write_bytes(lines())
    assert "Did you mean 'hh_rlhf'" in refused({"world": "hh_rlfh"}, tmp_path)


def test_a_worlds_items_need_a_world():
    """Without a world under [model] the source makes no sense."""
    assert "names no world" in refused({"world": "hh_rlhf"})


# ---------------------------------------------------------------- data sets


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stand in for the Hub's two libraries; remember how they were called."""
    calls = []

    def load_dataset(name, config=None, **options):
        calls.append((name, config, options))
        return iter(ROWS)

    def hf_hub_download(name, file, **options):
        calls.append((name, file, options))
        (tmp_path / "got.json").write_text(json.dumps(ROWS))
        return str(tmp_path / "got.json")

    for module, function in [("datasets", load_dataset), ("huggingface_hub", hf_hub_download)]:
        fake = types.ModuleType(module)
        setattr(fake, function.__name__, function)
        monkeypatch.setitem(sys.modules, module, fake)
    return calls


def test_a_data_set_is_asked_for_at_its_revision(hub):
    """Name, config, split, folder and commit reach the library, and nothing else does."""
    source = {
        "dataset": "org/name",
        "revision": SHA,
        "split": "test",
        "config": "c",
        "data_dir": "harmless-base",
    }
    assert list(load_items(source, None)) == ROWS
    options = {"split": "test", "revision": SHA, "data_dir": "harmless-base"}
    assert hub == [("org/name", "c", options)]


def test_a_named_file_of_a_data_set_is_read_as_a_file(hub):
    """A JSON file named in data_files is fetched at the revision, and messages name it."""
    source = {"dataset": "org/name", "revision": SHA, "data_files": "alpaca_eval.json"}
    first, *_ = load_items(source, None)
    assert first.where == f"data set org/name@{SHA[:7]} alpaca_eval.json: entry 1"
    assert hub == [("org/name", "alpaca_eval.json", {"repo_type": "dataset", "revision": SHA})]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "data set org/name has no revision"),
        ({"revision": "main"}, "revision 'main' is no commit (40 hex digits)"),
        ({"revision": SHA[:12]}, "is no commit"),
        ({"revision": SHA}, "needs a split"),
    ],
)
def test_a_data_set_needs_a_commit_and_a_split(hub, more, message):
    """Without a pinned revision nothing is asked of the Hub."""
    assert message in refused({"dataset": "org/name"} | more)
    assert hub == []


def test_an_unpinned_revision_must_be_said(hub):
    """A branch is accepted only where the protocol says that it is unpinned."""
    source = {"dataset": "org/name", "revision": "main", "unpinned": True, "split": "test"}
    assert list(load_items(source, None)) == ROWS


@pytest.mark.slow
def test_offline_a_data_set_that_is_not_cached_is_one_line(tmp_path):
    """With HF_HUB_OFFLINE the real libraries ask nobody, and the failure is one clear line."""
    code = f"""
        from harness.conduct.sources import load_items
        from harness.errors import PlumblineError
        try:
            load_items({{"dataset": "no/such", "revision": "{SHA}", "split": "test"}}, None)
        except PlumblineError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert done.stdout.startswith(f"data set no/such@{SHA[:7]} cannot be loaded: ")
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
def test_the_real_library_reads_a_data_set_folder(tmp_path):
    """``datasets`` itself, given a data set laid out on disk, gives the same rows."""
    folder = tmp_path / "org" / "name" / "harmless"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_bytes(lines([{"chosen": "a", "rejected": "b"}]))
    code = f"""
        from harness.conduct.sources import load_items
        source = {{"dataset": "org/name", "revision": "{SHA}", "split": "test"}}
        print([dict(item) for item in load_items(source | {{"data_dir": "harmless"}}, None)])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path)},
    )
    assert done.stdout == "[{'chosen': 'a', 'rejected': 'b'}]\n"


def test_records_name_the_row_that_is_no_object():
    """A row of another shape is refused by its number."""
    with pytest.raises(PlumblineError, match="row 2: null where an object is expected"):
        list(files.records([{"a": 1}, None], lambda i: f"row {i}"))
    assert isinstance(next(files.records([{"a": 1}], str)), Item)
