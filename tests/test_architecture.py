"""The shape of the house: which way imports point, how long files are, what the door offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Inside harness/, a module imports only from groups listed before its own, or its own.
GROUPS = (
    ("harness.errors", "harness.chat", "harness.records", "harness.ledger", "harness.progress"),
    ("harness.engine",),
    ("harness.contracts",),
    ("harness.judging",),
    ("harness.api",),
    ("harness.conduct",),
    ("harness.capability",),
    ("harness.interchange",),
    ("harness.commands", "harness.__main__"),
)
ENGINE = (
    "rows", "tilting", "segments", "steering", "sampling", "stopping", "cache", "packed", "sites",
    "model", "jobs", "ahead", "decoding", "greedy", "forced", "recording", "density", "companion",
    "rollouts", "prefixes", "reward", "encoder", "tiny",
)  # fmt: skip
LONGEST = 400
LONGER = {
    "harness/engine/decoding.py": 435,  # one loop, read from top to bottom; 40 lines say what holds
}
HEAVY = ("torch", "transformers", "datasets", "lm_eval", "alpaca_eval", "peft", "trl", "ray")


def sources(*folders):
    """Every Python file under the folders, with its module name."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            yield file, ".".join(p for p in parts if p != "__init__")


def imports(file, *, top_only=False):
    """Modules a file imports; without those under TYPE_CHECKING."""
    tree = ast.parse(file.read_text("utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in tree.body if top_only else ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            yield node.module or ""


def group(module):
    """Number of the group a harness module belongs to; None for report and the package itself."""
    for number, names in enumerate(GROUPS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return number
    return None


def test_harness_imports_nothing_from_plugins():
    """The harness knows no method and no benchmark by name."""
    for file, module in sources("harness"):
        for imported in imports(file):
            assert imported.split(".")[0] not in ("methods", "benchmarks", "tests"), (
                module,
                imported,
            )


def test_imports_point_one_way():
    """Inside the harness a module imports only from its own layer or an earlier one."""
    for file, module in sources("harness"):
        mine = group(module)
        if mine is None:
            continue
        for imported in imports(file):
            theirs = group(imported)
            if theirs is not None:
                assert theirs <= mine, f"{module} imports {imported}"


def test_engine_is_in_order():
    """Inside the engine a module imports only those before it in the order of the engine."""
    for file, module in sources("harness/engine"):
        name = module.rpartition(".")[2]
        if name == "engine":
            continue
        for imported in imports(file, top_only=True):
            if imported.startswith("harness.engine."):
                assert ENGINE.index(imported.split(".")[2]) < ENGINE.index(name), (module, imported)


def test_report_reads_only_records():
    """The report imports nothing of the engine, the contracts or the plugins."""
    for file, module in sources("harness/report"):
        for imported in imports(file):
            assert not imported.startswith(
                ("harness.engine", "harness.contracts", "harness.api")
            ), (
                module,
                imported,
            )


def test_methods_come_through_the_door():
    """A method imports the standard library, torch, harness.api and shared method code."""
    for file, module in sources("methods"):
        for imported in imports(file, top_only=True):
            top = imported.split(".")[0]
            fine = (
                top in sys.stdlib_module_names
                or top == "torch"
                or imported == "harness.api"
                or imported.startswith("methods._")
            )
            assert fine, f"{module} imports {imported}"


def test_benchmarks_come_through_the_door():
    """A benchmark imports the standard library and harness.api; a world also torch."""
    worlds = ("benchmarks.testbed", "benchmarks.planted")
    makers = {"torch", "transformers", "tokenizers", "numpy", "safetensors", "nltk"}
    for file, module in sources("benchmarks"):
        for imported in imports(file):
            top = imported.split(".")[0]
            fine = (
                top in sys.stdlib_module_names
                or imported == "harness.api"
                or imported.startswith("benchmarks")
                or (module.startswith("benchmarks.metrics") and top in ("nltk", "numpy"))
                or (
                    module.startswith(worlds)
                    and (
                        top in makers
                        or imported.startswith("harness.engine")
                        or imported in ("harness.chat", "harness.records", "harness.errors")
                    )
                )
            )
            assert fine, f"{module} imports {imported}"


def test_importlib_has_one_user():
    """Only plugins.py loads modules by name."""
    for file, module in sources("harness", "methods", "benchmarks"):
        if module in ("harness.conduct.plugins",):
            continue
        # importlib.metadata only reads versions of what is installed.
        loads = [i for i in imports(file) if i in ("importlib", "importlib.util")]
        assert not loads, f"{module} imports {loads}"


@pytest.mark.parametrize(
    "module",
    [
        "harness.records", "harness.chat", "harness.errors", "harness.ledger", "harness.progress",
        "harness.conduct.store", "harness.conduct.protocol", "harness.report.tables",
        "harness.report.statistics", "harness.report.capability_page", "harness.commands.tax",
        "harness.report.figures", "harness.__main__",
    ],
)  # fmt: skip
def test_no_torch_on_the_way_to_a_table(module):
    """Records, store, protocol, report and the command line import no torch."""
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert found.stdout.strip() == "[]"


def test_files_are_short():
    """A file is at most 400 lines; a longer one has its number and its reason above."""
    for file, _ in sources("harness", "methods", "benchmarks"):
        lines = len(file.read_text("utf-8").splitlines())
        name = str(file.relative_to(ROOT))
        assert lines <= LONGER.get(name, LONGEST), f"{name} has {lines} lines"


def test_nothing_is_called_utils():
    """No file is a drawer."""
    for file, _ in sources("harness", "methods", "benchmarks"):
        assert file.stem not in ("utils", "common", "helpers", "misc", "base")


def test_the_door_is_sorted():
    """Everything a plugin may import is listed, once, in order."""
    import harness.api as api

    assert list(api.__all__) == sorted(set(api.__all__))
    assert all(hasattr(api, name) for name in api.__all__)


def test_a_kit_and_a_lab_stay_small():
    """What a method is handed fits in one's head."""
    from harness.contracts.method import Kit, Lab

    def members(cls):
        return {n for n in vars(cls) if not n.startswith("_")}

    assert members(Kit) == {"reward", "after", "record"}
    assert members(Lab) == {"queries", "generate"}


def test_no_path_of_a_machine_is_shipped():
    """What is shipped names no folder outside the project."""
    for file, module in sources("harness", "methods", "benchmarks"):
        text = file.read_text("utf-8")
        assert "../shared" not in text, module
        assert "/work/" not in text, module
