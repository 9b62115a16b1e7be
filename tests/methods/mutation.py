"""Run one method's tests against seeded faults: ``python mutation.py TREE...``.

A tree is a folder laid out like the repository, holding ``methods/`` (with or without a
fault), ``tests/conftest.py`` and the tests to run; and ``harness/``, where the fault is there.
Each tree is tested in a child forked after the heavy imports, so that a fault costs its
tests and little more.  Prints JSON: tree -> exit status of pytest (0: nothing was noticed).
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

NOTICED = 1  # pytest's word for a test that failed


def preload() -> None:
    """Import what every tree's tests import, except ``methods`` itself."""
    import numpy  # noqa: F401
    import torch
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification  # noqa: F401

    import harness.api
    import harness.conduct.check
    import harness.engine.density
    import harness.engine.tiny  # noqa: F401

    torch.set_num_threads(1)


def tested(tree: Path) -> int:
    """Run a tree's tests in a child; give pytest's exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 70
    try:
        import pytest

        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and some warn
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        again = ["methods"] + ["harness", "benchmarks"] * (tree / "harness").is_dir()
        for name in [m for m in sys.modules if m.split(".")[0] in again]:
            del sys.modules[name]
        said = io.StringIO()
        first = tree / "first.txt"  # the test that is known to notice, and is asked before all
        places = [*([first.read_text("utf-8")] if first.exists() else []), "tests/methods"]
        with redirect_stdout(said), redirect_stderr(said):
            for place in places:
                status = int(
                    pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", place])
                )
                if status == NOTICED:
                    break
        (tree / "said.txt").write_text(said.getvalue(), encoding="utf-8")
    finally:
        os._exit(status)


if __name__ == "__main__":
    preload()
    print(json.dumps({name: tested(Path(name)) for name in sys.argv[1:]}))
