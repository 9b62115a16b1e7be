"""Plugins: found by listing folders, loaded by name, path or entry point."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.conduct import plugins
from harness.conduct.code import code_digest
from harness.conduct.stacks import stacks
from harness.errors import PlumblineError

METHOD = '''"""Adds nothing."""
from dataclasses import dataclass
from harness.api import Fitted, Kit, Method, Steering

@dataclass(frozen=True)
class Mine(Method):
    """A method of a test's own."""

    n: int = 1

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Touch nothing."""
        return Steering()
'''


def write(folder: Path, text: str = METHOD, name: str = "mine.py") -> str:
    """Write a plugin file and give its path."""
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_method_comes_from_a_file(tmp_path: Path) -> None:
    """METHOD=path/to/mine.py is a method named mine."""
    (stack,) = stacks(f"{write(tmp_path)}(n=3)")
    assert stack.label == "mine(n=3)"


def test_set_reaches_every_row_and_the_rows_own_fields_stand_above_it(tmp_path: Path) -> None:
    """SET fills what a row does not say itself; the same row twice is one row."""
    path = write(tmp_path)
    rows = stacks(f"{path},{path}(n=3),{path}(n=2)", "mine.n=2")
    assert [row.label for row in rows] == ["mine(n=2)", "mine(n=3)"]


def test_set_for_a_method_that_does_not_run_is_refused(tmp_path: Path) -> None:
    """A SET that could have no effect is an error with the nearest method suggested."""
    with pytest.raises(PlumblineError, match=r"SET mina\.n.*Did you mean 'mine'"):
        stacks(write(tmp_path), "mina.n=2")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import nothing_of_the_sort\n", r"mine\.py, line 1 does not import: ModuleNotFound"),
        ("def broken(:\n", r"mine\.py, line 1 does not import: SyntaxError"),
        ("x = 1\n", "exactly one Method; it defines 0"),
        (METHOD + METHOD.replace("Mine", "Other"), r"exactly one Method; it defines 2 \(Mine, Oth"),
        (METHOD.replace("def steer", "def stear"), "does not define steer"),
    ],
)
def test_a_broken_plugin_is_one_line_naming_the_file(tmp_path: Path, text: str, says: str) -> None:
    """A plugin that cannot be used says why, in one line."""
    with pytest.raises(PlumblineError, match=says) as caught:
        stacks(write(tmp_path, text))
    assert "mine.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named() -> None:
    """A path that does not exist is said to not exist."""
    with pytest.raises(PlumblineError, match=r"nowhere/mine\.py does not exist"):
        stacks("nowhere/mine.py")


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (stacks, "method"),
        (plugins.benchmark, "benchmark"),
        (plugins.world, "world"),
        (plugins.protocol_file, "protocol"),
        (plugins.judge_file, "judge"),
    ],
)
def test_unknown_names_say_what_is_known(ask: object, kind: str) -> None:
    """Every kind of name fails the same way."""
    with pytest.raises(PlumblineError, match=f"unknown {kind} 'zzz'"):
        ask("zzz")  # type: ignore[operator]


def test_an_entry_point_is_a_method(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installed package may bring methods under the group plumbline.methods."""
    write(tmp_path, name="brought.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [
        EntryPoint("from_outside", "brought:Mine", plugins.ENTRY_POINTS),
        EntryPoint("gone", "no_such_module:Mine", plugins.ENTRY_POINTS),
    ]
    monkeypatch.setattr(plugins, "_entry_points", lambda: iter(points))
    (stack,) = stacks("from_outside(n=4)")
    assert stack.label == "from_outside(n=4)"
    with pytest.raises(PlumblineError, match="no_such_module"):
        stacks("gone")


def test_all_is_every_method_file_and_stands_alone() -> None:
    """METHOD=all lists the folder; all+x means nothing."""
    with pytest.raises(PlumblineError, match="'all' stands alone"):
        stacks("all+unsteered")


def test_code_digest_sees_code_and_not_docstrings(tmp_path: Path) -> None:
    """An edit of what is computed changes the digest; a better docstring or comment does not."""
    file = Path(write(tmp_path))
    before = code_digest(file)
    write(tmp_path, METHOD.replace("Touch nothing.", "Touch nothing at all.") + "# a comment\n")
    assert code_digest(file) == before
    write(tmp_path, METHOD.replace("n: int = 1", "n: int = 2"))
    assert code_digest(file) != before


def test_listing_imports_neither_plugins_nor_torch() -> None:
    """What make list shows is read from the files' first lines."""
    code = (
        "import sys; from harness.conduct import plugins as p;"
        "print(len(p.methods()) + len(p.benchmarks()) + len(p.worlds()) + len(p.judges()));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_presets_are_other_names_of_settings() -> None:
    """What the literature calls a setting stands for it, and fields given beside it win."""
    found = stacks("recontrol_cd_prefix,args,args(k=5),prompting+cd_q_block(width=8)")
    assert [stack.label for stack in found] == [
        "controlled_decoding",
        "reward_guided(rule=greedy)",
        "reward_guided(k=5,rule=greedy)",
        "prompting+controlled_decoding(scorer=q,rule=block,width=8)",
    ]


def test_no_two_presets_share_a_name() -> None:
    """A preset is neither a method's name nor another method's preset, and it builds."""
    names = [one.name for one in plugins.methods()]
    for _, cls in plugins.own_methods():
        names += cls.presets
        for fields in cls.presets.values():
            assert cls(**fields)
    assert len(names) == len(set(names))


def test_a_wrong_name_is_still_unknown() -> None:
    """What is neither a method nor a preset is refused with the nearest name."""
    with pytest.raises(PlumblineError, match="unknown method 'recontrl'"):
        stacks("recontrl")
