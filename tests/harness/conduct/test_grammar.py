"""The language of METHOD= and SET=."""

import pytest

from harness.conduct.grammar import Part, parse_rows, parse_settings
from harness.errors import PlumblineError


def test_commas_separate_rows_and_plus_stacks_outside_brackets_only() -> None:
    """Commas and pluses inside brackets or quotes belong to a value."""
    rows = parse_rows("a, b(x=1,y=(2,3))+c , d(text='p+q, r')")
    assert rows == [
        (Part("a"),),
        (Part("b", (("x", "1"), ("y", "(2,3)"))), Part("c")),
        (Part("d", (("text", "p+q, r"),)),),
    ]


def test_a_path_is_a_name() -> None:
    """A file path goes through whole, fields and all."""
    assert parse_rows("path/to/mine.py(n=2)") == [(Part("path/to/mine.py", (("n", "2"),)),)]


@pytest.mark.parametrize(
    "text", ["", "a,,b", "a+", "a(x=1", "a)b", "a(x)", "a(=1)", "(x=1)", "a('x=1)", "a(x=1)b"]
)
def test_what_cannot_be_read_is_refused_in_one_line(text: str) -> None:
    """Malformed METHOD strings raise one line, never a guess."""
    with pytest.raises(PlumblineError) as caught:
        parse_rows(text)
    assert "\n" not in str(caught.value)


def test_settings_are_method_field_value() -> None:
    """SET is read into triples; quotes keep blanks; a dotted name keeps its last dot."""
    assert parse_settings("a.n=16  b.text='two words'") == [
        ("a", "n", "16"),
        ("b", "text", "two words"),
    ]
    assert parse_settings("") == []


@pytest.mark.parametrize("text", ["n=1", "a.n", "a.=1", ".n=1"])
def test_malformed_settings_are_refused(text: str) -> None:
    """A SET word that is not method.field=value names itself in the error."""
    with pytest.raises(PlumblineError, match="SET"):
        parse_settings(text)
