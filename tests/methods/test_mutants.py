"""Seeded faults: a buggy method often still gains, so a method's own tests must notice the bug.

A patch may open with "Noticed by: file.py::test", which is then run first; the others are run
only where it passes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FEWEST = 8  # faults a method
CAUGHT = 0.9  # share of them its tests must notice
METHODS = sorted({patch.parent.name for patch in HERE.glob("mutants/*/*.patch")})


def modules(patch):
    """Name the files that a patch changes, without folder and suffix.

    A fault lies in ``methods/``, or in the part of the engine that a method is made of.
    """
    touched = re.findall(r"^\+\+\+ b/(\S+)", patch.read_text("utf-8"), re.MULTILINE)
    assert touched, f"{patch.name} changes no file"
    seeded = ("methods/", "harness/engine/")
    assert all(name.startswith(seeded) for name in touched), f"{patch.name}: {touched}"
    return [Path(name).stem for name in touched]


def suite_of(method, patches):
    """Find the tests of a method, and of every shared module that a fault is seeded in."""
    shared = {f"test_{m.lstrip('_')}.py" for patch in patches for m in modules(patch)}
    return {*HERE.glob(f"test_{method}*.py"), *(HERE / n for n in shared if (HERE / n).exists())}


def plant(folder, tests, patch=None):
    """Copy ``methods/`` and the tests, with a fault or without."""
    copied = ["methods"] + ["harness"] * (patch is not None and "b/harness/" in patch.read_text())
    for name in copied:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__py*"))
    (folder / "tests" / "methods").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    for file in (*tests, *HERE.glob("conftest.py")):
        shutil.copy(file, folder / "tests" / "methods")
    if patch:
        if named := re.match(r"Noticed by: (\S+)", patch.read_text("utf-8")):
            (folder / "first.txt").write_text(f"tests/methods/{named[1]}", encoding="utf-8")
        done = subprocess.run(
            ["git", "apply", "--recount", "-C1", str(patch)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        )
        assert done.returncode == 0, f"{patch.name} no longer applies: {done.stderr.strip()}"
    return folder


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="patches are applied by git")
@pytest.mark.parametrize("method", METHODS)
def test_seeded_faults_are_noticed(method, tmp_path):
    """A method's tests pass without a fault and fail with nine in ten; its card names the rest."""
    patches = sorted((HERE / "mutants" / method).glob("*.patch"))
    assert len(patches) >= FEWEST
    tests = suite_of(method, patches)
    trees = {"as it is": plant(tmp_path / "as it is", tests)}
    trees |= {p.stem: plant(tmp_path / p.stem, tests, p) for p in patches}
    done = subprocess.run(
        [sys.executable, str(HERE / "mutation.py"), *map(str, trees.values())],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        # A pytest of its own: it must not take itself for a worker of this one.
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout.splitlines()[-1])
    said = (trees["as it is"] / "said.txt").read_text("utf-8")
    assert status[str(trees["as it is"])] == 0, f"the tests fail without a fault:\n{said}"
    survivors = [p.stem for p in patches if status[str(trees[p.stem])] == 0]
    odd = {p.stem: s for p in patches if (s := status[str(trees[p.stem])]) not in (0, 1)}
    assert not odd, f"pytest could not run: {odd}"
    assert len(survivors) <= (1 - CAUGHT) * len(patches), f"not noticed: {survivors}"
    card = (ROOT / "methods" / "cards" / f"{method}.md").read_text("utf-8")
    unnamed = [name for name in survivors if name not in card]
    assert not unnamed, f"survivors that the card does not name: {unnamed}"
