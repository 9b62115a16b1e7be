"""Bars on a terminal, sparse lines elsewhere."""

import io

import pytest
from rich.console import Console

from harness import progress as module
from harness.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds_at_most(clock, capsys, monkeypatch):
    """Where nobody watches: one plain line with rate and remaining time."""
    monkeypatch.setattr(module, "console", Console(file=io.StringIO()))
    with progress("decode", 100) as advance:
        for second in (1, 5, 9.9):
            clock[0] = second
            advance(5, "early")
        assert capsys.readouterr().err == ""
        clock[0] = 10.0
        advance(5, "late")
        clock[0] = 19.0
        advance(5, "too soon")
        clock[0] = 25.0
        advance(25, "later")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "decode: 20/100, 2.0/s, 40 s left late",
        "decode: 50/100, 2.0/s, 25 s left later",
    ]


def test_no_progress_yet_is_no_division_by_zero(clock, capsys, monkeypatch):
    """Nothing done after a while is said so."""
    monkeypatch.setattr(module, "console", Console(file=io.StringIO()))
    with progress("fit", 3) as advance:
        clock[0] = 20.0
        advance(0, "waiting")
    assert capsys.readouterr().err == "fit: 0/3, 0.0/s, nan s left waiting\n"


def test_a_terminal_gets_a_bar(monkeypatch):
    """The bar shows what, how many and the note, brackets and all."""
    out = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=out, force_terminal=True, width=120))
    with progress("decode [a]", 4) as advance:
        advance(1, "[/b]")
        advance(3, "[/b] done")
    assert "decode [a]" in out.getvalue()
    assert "[/b] done" in out.getvalue()
    assert "4/4" in out.getvalue()
