"""The command line: one line per fault, an exit code, the path of the table last."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.__main__ import app

ROOT = Path(__file__).parents[2]
PROTOCOL = """
[about]
text = "A protocol of the tests, on the synthetic world planted."
[model]
world = "planted"
reads_words = false
[rewards]
granted = { world = "reward" }
evaluation = { world = "reward" }
[data.hh_rlhf]
world = "hh_rlhf"
[training]
pairs = { world = "pairs.train" }
[sampling]
temperature = 1.0
max_new_tokens = 4
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the command line in this process; gives exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        return result.exit_code, result.stdout, result.stderr

    return call


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Give a small protocol on the world planted, whose cache lasts as long as this module."""
    named = os.environ.get("PLUMBLINE_CACHE")
    os.environ["PLUMBLINE_CACHE"] = named or str(tmp_path_factory.mktemp("cache"))
    file = tmp_path_factory.mktemp("protocol") / "tiny.toml"
    file.write_text(PROTOCOL)
    yield file
    if named is None:
        del os.environ["PLUMBLINE_CACHE"]


@pytest.mark.parametrize("also", [("--seed", "0"), ("--fit_seed", "1")])
def test_seeds_of_both_kinds_stand_alone(run, also):
    """SEEDS= with SEED= or FIT_SEED= would say two things; one line says which to give."""
    code, _, said = run("bench", "--method", "unsteered", "--seeds", "0,1", *also)
    assert code == 1
    assert said.startswith("error: SEEDS= sets the seeds of sampling and of fitting")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("words", [("--help",), ("list",), ("tables", "--output_path", "empty")])
def test_what_needs_no_model_imports_no_torch_and_answers_at_once(words, tmp_path):
    """Help, the list and the tables start without torch."""
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['harness', *{words!r}]\n"
        "try:\n    runpy.run_module('harness', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 20  # a second or two on a machine that is not busy


def test_a_bench_prints_a_line_a_cell_and_the_table_last(run, tiny, tmp_path):
    """Each cell is one line, and the last line is the path of a table that exists."""
    code, out, err = run(
        "bench", "--method", "another_seed", "--protocol", tiny, "--limit", "4",
        "--output_path", tmp_path, "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    lines = out.strip().split("\n")
    assert sum(line.startswith("hh_rlhf  ") for line in lines) == 2
    table = Path(lines[-1])
    assert table.name == "overall.md"
    assert "another_seed" in table.read_text()
    written = {p.name: p.read_bytes() for p in table.parent.iterdir()}
    code, out, _ = run("tables", "--output_path", tmp_path)
    assert code == 0
    assert out.strip() == str(table)
    assert {p.name: p.read_bytes() for p in table.parent.iterdir()} == written


def test_flags_are_spelled_as_lm_eval_spells_them(run, tiny, tmp_path):
    """--tasks, --batch_size, --seed and --limit mean what they mean there."""
    code, out, err = run(
        "bench", "-m", "unsteered", "-p", tiny, "--tasks", "hh_rlhf", "--batch_size", 2,
        "--seed", "1", "--limit", "2", "--output_path", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    assert "n=2" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("bench", "-m", "unsterd"), "Did you mean 'unsteered'"),
        (("bench", "-m", "unsteered", "-p", "testbd"), "Did you mean 'testbed'"),
        (("bench", "-m", "unsteered", "-b", "hhrlhf", "-p", "planted"), "Did you mean 'hh_rlhf'"),
        (("bench", "-m", "best_of_n", "--set", "best_of_n.m=2"), "unknown field"),
        (("bench", "-m", "a(b"), "never closed"),
        (("bench", "-m", "nowhere/mine.py"), "does not exist"),
        (("tables", "-p", "planted", "--output_path", "nothing-here"), "no finished run"),
        (("tables", "--output_path", "nothing-here"), "no runs under"),
        (("check", "-m", "promting"), "Did you mean 'prompting'"),
        (("new-method", "--name", "2fast"), "must be a Python name"),
        (("new-method", "--name", "prompting"), "already"),
    ],
)
def test_bad_input_is_one_line_and_a_non_zero_exit(run, words, says, tmp_path, monkeypatch):
    """A user's mistake is answered with one line, on standard error, without a traceback."""
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*words)
    assert code == 1
    (line,) = err.strip().split("\n")
    assert line.startswith("error: ")
    assert says in line


def test_a_failed_row_makes_the_exit_code_non_zero_and_keeps_the_rest(run, tiny, tmp_path):
    """The other rows are finished and in the table; the fault is the last word."""
    faulty = tmp_path / "faulty.py"
    faulty.write_text(
        '"""Faulty."""\nfrom dataclasses import dataclass\nfrom harness.api import Method\n'
        "@dataclass(frozen=True)\nclass Faulty(Method):\n"
        "    def steer(self, kit, fitted):\n        raise KeyError('oh')\n"
    )
    code, out, err = run(
        "bench", "-m", f"{faulty},another_seed", "-p", tiny, "--limit", 2,
        "--output_path", tmp_path / "results",
    )  # fmt: skip
    assert code == 1
    assert "KeyError" in err.strip().split("\n")[-1]
    assert "another_seed" in Path(out.strip().split("\n")[-1]).read_text()


def test_an_interrupt_says_how_to_go_on(run, monkeypatch):
    """Ctrl-C is one line: what is finished is kept."""
    from harness.conduct import plugins

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(plugins, "methods", interrupt)
    code, _, err = run("list")
    assert code == 130
    assert "the same command goes on from there" in err


def test_what_nobody_foresaw_is_one_line_and_a_log(run, monkeypatch, tmp_path):
    """An unexpected exception names a file with its traceback; DEBUG shows it at once."""
    from harness.conduct import plugins

    def stumble():
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(plugins, "methods", stumble)
    monkeypatch.chdir(tmp_path)
    code, _, err = run("list")
    assert code == 1
    (line,) = err.strip().split("\n")
    log = Path(line.rpartition("traceback in ")[2].rstrip(")"))
    assert "a fault of ours" in log.read_text()
    monkeypatch.setenv("PLUMBLINE_DEBUG", "1")
    assert "Traceback" in run("list")[2]


def test_list_shows_every_kind_of_plugin(run):
    """Methods, benchmarks, protocols, judges, metrics and worlds have a line each."""
    code, out, _ = run("list")
    assert code == 0
    for name in ("unsteered", "hh_rlhf", "mt_bench", "testbed_pairwise", "planted", "diversity"):
        assert any(line.strip().startswith(name) for line in out.split("\n")), name


def test_check_says_which_clauses_hold(run, tmp_path):
    """A sound method passes every clause; a broken one fails with the clause named."""
    code, out, err = run("check", "-m", "unsteered")
    assert code == 0, out + err
    assert "keeps the contract" in out
    mutable = tmp_path / "mutable.py"
    mutable.write_text(
        '"""Not frozen."""\nfrom dataclasses import dataclass\n'
        "from harness.api import Method, Steering\n"
        "@dataclass(frozen=True)\nclass Mutable(Method):\n"
        "    items: object = None\n    search_space = {'nothing': (1,)}\n"
        "    def steer(self, kit, fitted):\n        return Steering()\n"
    )
    code, out, err = run("check", "-m", mutable)
    assert code == 1
    assert "FAIL" in out
    assert "breaks" in err


def test_a_new_method_works_as_it_is_written(run, tiny, tmp_path):
    """What new-method writes passes its own test, keeps the contract, and runs."""
    (tmp_path / "methods").mkdir()
    code, out, err = run("new-method", "--name", "my_own_way", "--folder", tmp_path)
    assert code == 0, err
    method = tmp_path / "methods" / "my_own_way.py"
    test = tmp_path / "tests" / "methods" / "test_my_own_way.py"
    assert out.split()[:2] == [str(method), str(test)]
    assert run("new-method", "--name", "my_own_way", "--folder", tmp_path)[0] == 1
    code, out, err = run("check", "-m", method)
    assert code == 0, out + err
    code, out, err = run(
        "bench", "-m", method, "-p", tiny, "--limit", 4, "--output_path", tmp_path / "results"
    )
    assert code == 0, err
    test.write_text(test.read_text().replace("methods.my_own_way", "my_own_way"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{method.parent}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------- make


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words, **changes):
    """Run make in the checkout without making its environment."""
    return subprocess.run(
        ["make", "--no-print-directory", "--old-file", ".venv/.ready", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **changes},
    )  # fmt: skip


@needs_make
def test_the_reference_run_is_cut_into_cells_that_share_no_fit():
    """Tunings, then each set under each seed, then the tables; its dry run is one command."""
    said = make("-n", "reference", "JOBS=2")
    assert said.returncode == 0, said.stderr
    lines = said.stdout.replace("\\\n\t", "").replace("\\\n", "").splitlines()
    tuned = [line for line in lines if " tune --method" in line]
    cells = [line.split() for line in lines if " bench --method" in line]
    names = ("hh_rlhf", "harmful_qa", "alpaca_eval", "mt_bench")
    assert {(w[w.index("--bench") + 1], w[w.index("--seeds") + 1]) for w in cells} == {
        (f"'{name}'", f"'{seed}'") for name in names for seed in (0, 1, 2)
    }
    assert len(cells) == 12
    assert len(tuned) > 10
    assert " tables --protocol reference" in lines[-1]
    dry = make("-n", "reference", "DRY=1")
    assert dry.stdout.count("harness bench") == 1
    assert "--tune_first 'dpo,genarm" in dry.stdout
    assert "--dry-run --jobs 2" in dry.stdout


@needs_make
def test_make_help_is_the_default_and_names_every_target():
    """Make without a target explains itself."""
    said = make()
    assert said.returncode == 0
    for target in ("bench", "list", "tables", "check", "new-method", "test", "perf"):
        assert f"make {target}" in said.stdout


@needs_make
def test_make_bench_passes_every_word_on():
    """METHOD, PROTOCOL, BENCH, SET, LIMIT and SEED arrive as flags, quoted."""
    said = make(
        "-n", "bench", "METHOD=a(x=1,y=(2,3))+b,c", "PROTOCOL=planted", "BENCH=hh_rlhf",
        "SET=a.x=1 b.y=2", "LIMIT=3", "SEED=0,1",
    )  # fmt: skip
    for words in (
        "--method 'a(x=1,y=(2,3))+b,c'", "--protocol 'planted'", "--bench 'hh_rlhf'",
        "--set 'a.x=1 b.y=2'", "--limit '3'", "--seed '0,1'",
    ):  # fmt: skip
        assert words in said.stdout


@needs_make
@pytest.mark.parametrize("target", ["bench", "check", "new-method"])
def test_make_says_what_is_missing(target):
    """A target without its word says which word."""
    said = make(target)
    assert said.returncode != 0
    assert "error: say" in said.stderr


@needs_make
def test_an_old_python_is_refused_with_the_version_it_is(tmp_path):
    """The first call says which Python is needed and which was found."""
    old = tmp_path / "python"
    old.write_text(
        "#!/bin/sh\n"
        f"exec {sys.executable} -c 'import sys; v = (3, 9); "
        'code = sys.argv[1].replace("sys.version_info", "(3, 9, 1)"); exec(code)\' "$2"\n'
    )
    old.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    said = subprocess.run(
        ["make", "list", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said.returncode != 0
    assert "needs Python 3.11 or newer" in said.stderr
    assert "is 3.9" in said.stderr
