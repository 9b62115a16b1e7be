"""Conversations and the plain templates."""

import pytest

from harness.chat import (
    HUMAN_ASSISTANT,
    TEMPLATE_NAMES,
    VICUNA,
    VICUNA_SYSTEM,
    Chat,
    Message,
    plain_template,
)
from harness.errors import PlumblineError

DIALOGUE = Chat.of("hello").assistant("hi").user("how are you?")


def test_a_conversation_grows_without_changing():
    """Every change is a new conversation."""
    first = Chat.of("hello")
    second = first.assistant("hi")
    assert len(first.messages) == 1
    assert second.messages == (Message("user", "hello"), Message("assistant", "hi"))
    assert hash(Chat.of("hello")) == hash(first)


def test_the_system_sentence_stands_first():
    """A second one comes before the first, which is kept."""
    chat = DIALOGUE.with_system("Be brief.")
    assert chat.system == "Be brief."
    assert chat.messages[1:] == DIALOGUE.messages
    both = chat.with_system("Be kind.")
    assert both.system == "Be kind.\n\nBe brief."
    assert both.messages[1:] == DIALOGUE.messages
    assert Chat.of("hello", "Be brief.") == Chat.of("hello").with_system("Be brief.")
    assert DIALOGUE.system is None


def test_the_last_thing_the_user_said():
    """Later answers do not hide it; nobody asking is empty."""
    assert DIALOGUE.last_user == "how are you?"
    assert DIALOGUE.assistant("well").last_user == "how are you?"
    assert Chat().last_user == ""


def test_conversations_survive_as_dictionaries():
    """What is written for a chat endpoint is read back the same."""
    chat = DIALOGUE.with_system("Be brief.")
    assert Chat.from_dicts(chat.to_dicts()) == chat
    assert chat.to_dicts()[0] == {"role": "system", "content": "Be brief."}


def test_a_verbatim_conversation_is_its_text():
    """It is told from every other."""
    assert Chat.verbatim("# Query").verbatim_text == "# Query"
    assert DIALOGUE.verbatim_text is None
    assert Chat().verbatim_text is None


def test_human_assistant_is_the_data_sets_own_format():
    """Every turn starts with a blank line, and the prompt ends open, without a space."""
    assert HUMAN_ASSISTANT.render(DIALOGUE) == (
        "\n\nHuman: hello\n\nAssistant: hi\n\nHuman: how are you?\n\nAssistant:"
    )
    assert HUMAN_ASSISTANT.render(Chat.of("hello", "Be brief.")) == (
        "Be brief.\n\nHuman: hello\n\nAssistant:"
    )
    assert HUMAN_ASSISTANT.render(DIALOGUE.assistant("well")).endswith("\n\nAssistant: well")
    assert HUMAN_ASSISTANT.stop == ("\n\nHuman:",)


def test_vicuna_is_one_line_with_an_end_after_each_answer():
    """Blanks between turns, none after the end token, as in the model's training."""
    assert VICUNA.render(DIALOGUE) == (
        f"{VICUNA_SYSTEM} USER: hello ASSISTANT: hi</s>USER: how are you? ASSISTANT:"
    )
    assert VICUNA.render(Chat.of("hello", "Be brief.")) == "Be brief. USER: hello ASSISTANT:"
    assert VICUNA.render(DIALOGUE.assistant("well")).endswith(" ASSISTANT: well</s>")


def test_templates_are_found_by_name():
    """A wrong name lists the right ones."""
    assert plain_template("vicuna") is VICUNA
    assert TEMPLATE_NAMES == ("tokenizer", "human-assistant", "vicuna")
    with pytest.raises(PlumblineError, match=r"unknown chat template 'human'.*human-assistant"):
        plain_template("human")
