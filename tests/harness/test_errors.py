"""The one exception a user sees."""

from harness.errors import PlumblineError, unknown


def test_an_unknown_name_suggests_the_nearest():
    """The nearest known name is offered, and all are listed in order."""
    error = unknown("method", "best_of_m", ["unsteered", "best_of_n", "alignez"])
    assert isinstance(error, PlumblineError)
    assert str(error) == (
        "unknown method 'best_of_m'. Did you mean 'best_of_n'? Known: alignez, best_of_n, unsteered"
    )


def test_a_name_like_no_other_is_not_guessed_at():
    """Nothing near, no suggestion; nothing known, none."""
    assert str(unknown("method", "zzz", ["alignez"])) == "unknown method 'zzz'. Known: alignez"
    assert str(unknown("method", "zzz", [])) == "unknown method 'zzz'. Known: none"
