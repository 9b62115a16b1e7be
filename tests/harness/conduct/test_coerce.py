"""Strings become field values, strictly."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from harness.conduct.coerce import UnfitError, accepted, build, coerce
from harness.errors import PlumblineError


@dataclass(frozen=True)
class Knobs:
    """A method's fields, as far as this module cares."""

    n: int = 8
    rate: float = 0.5
    on: bool = False
    mode: Literal["last", "all"] = "last"
    layers: tuple[int, ...] = ()
    cap: int | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError("n must be at least 1")


def make(**settings: str) -> Any:
    """Build Knobs from strings."""
    return build(Knobs, "knobs", "methods/knobs.py", settings)


def test_every_type_a_field_may_have() -> None:
    """Each annotation takes its own spelling."""
    built = make(n="16", rate="1e-3", on="True", mode="all", layers="(1,-2)", cap="3")
    assert built == Knobs(16, 0.001, True, "all", (1, -2), 3)
    assert make(cap="none").cap is None
    assert make(layers="()").layers == ()
    assert coerce("none", str | None) is None
    assert coerce("1,2", tuple[int, int]) == (1, 2)
    assert coerce("x", str) == "x"


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("n", "3.0", "a whole number"),
        ("n", "x", "a whole number"),
        ("rate", "nan", "a number"),
        ("on", "1", "true or false"),
        ("mode", "first", "one of last, all"),
        ("layers", "(1,x)", "a list such as"),
        ("cap", "x", "a whole number or none"),
    ],
)
def test_a_wrong_type_names_field_file_and_choices(field: str, text: str, says: str) -> None:
    """The error says which field, in which file, and what is accepted."""
    with pytest.raises(PlumblineError) as caught:
        make(**{field: text})
    for word in (f"knobs.{field}={text}", "methods/knobs.py", says):
        assert word in str(caught.value)


def test_an_unknown_field_suggests_the_nearest() -> None:
    """A misspelt field is answered with the one that was meant."""
    with pytest.raises(PlumblineError, match="Did you mean 'layers'"):
        make(layer="1")


def test_a_value_out_of_range_carries_the_methods_own_words() -> None:
    """What the dataclass itself refuses becomes one line naming the method and the value."""
    with pytest.raises(PlumblineError, match=r"knobs \(methods/knobs.py\) refuses n=0: n must be"):
        make(n="0")


def test_a_type_no_string_can_make_is_refused() -> None:
    """A field of another kind cannot be set from the command line, and the error says so."""
    with pytest.raises(UnfitError):
        coerce("x", dict)
    assert "settable" in accepted(dict)
    with pytest.raises(UnfitError):
        coerce("1,2,3", tuple[int, int])
