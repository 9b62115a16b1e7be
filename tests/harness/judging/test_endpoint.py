"""Whose URL and whose key a judge is asked with."""

import pytest

from harness.errors import PlumblineError
from harness.judging.endpoint import OPENAI, endpoint, normal

OURS, THEIRS = "http://localhost:8000/v1", "https://proxy.example/v1"


@pytest.mark.parametrize(
    ("environment", "given", "url", "key"),
    [
        ({"OPENAI_API_KEY": "k"}, None, OPENAI, "k"),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": THEIRS}, None, THEIRS, "k"),
        ({"OPENAI_API_KEY": "k", "OPENAI_API_BASE": THEIRS}, None, THEIRS, "k"),
        ({"PLUMBLINE_JUDGE_API_KEY": "j", "OPENAI_API_KEY": "k"}, None, OPENAI, "j"),
        ({"PLUMBLINE_JUDGE_BASE_URL": OURS}, None, OURS, ""),
        ({"PLUMBLINE_JUDGE_BASE_URL": OURS, "OPENAI_API_KEY": "k"}, None, OURS, ""),
        ({"OPENAI_API_KEY": "k"}, OURS, OURS, ""),
        ({"PLUMBLINE_JUDGE_API_KEY": "j"}, OURS, OURS, "j"),
        ({"OPENAI_API_KEY": "k"}, OPENAI + "/chat/completions", OPENAI, "k"),
        ({"PLUMBLINE_JUDGE_BASE_URL": THEIRS, "OPENAI_BASE_URL": THEIRS, "OPENAI_API_KEY": "k"},
         None, THEIRS, "k"),
    ],
)  # fmt: skip
def test_a_key_goes_only_where_it_belongs(environment, given, url, key):
    """The judge's own URL and key come first, and OpenAI's key is sent to nobody else."""
    found = endpoint(environment, given)
    assert (found.url, found.key) == (url, key)


def test_openai_without_a_key_is_refused_before_anything_is_asked():
    """The line says which variables to set."""
    with pytest.raises(PlumblineError, match=r"set PLUMBLINE_JUDGE_API_KEY \(or OPENAI_API_KEY\)"):
        endpoint({"OPENAI_API_KEY": "  "})


@pytest.mark.parametrize(
    "url",
    ["http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions",
     " http://h:1/v1/chat/completions/ ", "http://h:1/v1/completions"],
)  # fmt: skip
def test_a_base_and_a_full_url_mean_the_same(url):
    """What stands after the base is taken off."""
    assert normal(url, "X") == "http://h:1/v1"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://", "judge"])
def test_what_is_no_url_is_refused_with_its_source(url):
    """The line names the variable and shows what a URL looks like."""
    with pytest.raises(PlumblineError, match=r"JUDGE_BASE_URL is .* it must be a URL such as"):
        endpoint({"PLUMBLINE_JUDGE_BASE_URL": url})


def test_secrets_are_not_shown():
    """Neither the key nor a password in the URL stands in a text, in the record or in an error."""
    found = endpoint(
        {"PLUMBLINE_JUDGE_API_KEY": "sk-secret"}, "https://me:hunter2@host/v1?k=hunter3"
    )
    assert found.shown == "https://host/v1"
    assert found.hide("no: sk-secret, me:hunter2, hunter3") == "no: [hidden], [hidden], [hidden]"
    assert found.query == "k=hunter3"
    assert "hunter" not in repr(found)
    assert "sk-secret" not in repr(found)
    with pytest.raises(PlumblineError) as caught:
        endpoint({}, "ftp://me:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)
