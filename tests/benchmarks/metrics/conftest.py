import pytest

from harness.api import Answered, Chat, Prompt, Response


@pytest.fixture
def answered():
    """Make an Answered of a question and an answer."""

    def make(question: str, text: str, *, tokens=(), prompt=None, turn: int = 0, chat=None):
        item = prompt or Prompt(f"p{abs(hash((question, text)))}", Chat.of(question))
        response = Response(item.id, turn, text, tuple(tokens), "eos")
        return Answered(item, chat or item.chat, response)

    return make
