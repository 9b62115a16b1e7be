"""The canned backend: what the other tests judge with."""

from harness.chat import Chat
from harness.contracts.backends import Canned, Reply


def test_canned_answers_in_order():
    """A string is a reply; a reply passes through."""
    failed = Reply("", "failed", "timeout")
    backend = Canned(lambda c: failed if c.last_user == "b" else c.last_user.upper(), name="mine")
    replies = backend.ask([Chat.of("a"), Chat.of("b"), Chat.of("c")], max_tokens=1)
    assert list(replies) == [Reply("A"), failed, Reply("C")]
    assert backend.name == "mine"
