"""Records survive a line of JSON, and bring no heavy import."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from harness.chat import Chat
from harness.records import Preference, Prompt, Response, Score

RESPONSE = Response("p", 1, "It is late. é\n", (5, 6, 2), "eos", {"policy": 12}, 4)
SCORE = Score("p", 1, 0.5, "tie", {"order_0": 0.5}, "C")


@pytest.mark.parametrize("record", [RESPONSE, SCORE, Score("p", 0, None, "failed")])
def test_a_record_survives_a_line(record):
    """What is stored is what is read back."""
    line = json.loads(json.dumps(record.to_json()))
    assert type(record).from_json(line) == record


def test_a_response_keeps_its_tokens_as_a_tuple():
    """Read from a list, they are hashable again."""
    assert Response.from_json(RESPONSE.to_json()).tokens == (5, 6, 2)
    assert RESPONSE.to_json()["tokens"] == [5, 6, 2]


def test_records_are_known_by_prompt_and_turn():
    """The key is what makes a record unique in its file."""
    assert RESPONSE.key == SCORE.key == ("p", 1)


def test_records_are_frozen():
    """Nothing is changed after the fact."""
    for record, name in ((RESPONSE, "text"), (SCORE, "value")):
        with pytest.raises(FrozenInstanceError):
            setattr(record, name, None)


def test_items_need_little():
    """A prompt is an id and a conversation; a preference adds two answers."""
    prompt = Prompt("p", Chat.of("a"))
    assert (prompt.turns, prompt.reference, prompt.cluster, prompt.further) == ((), None, "", ())
    pair = Preference("p", Chat.of("a"), "good", "bad")
    assert (pair.chosen, pair.rejected, pair.cluster) == ("good", "bad", "")


@pytest.mark.parametrize("module", ["records", "chat", "errors", "ledger"])
def test_light_modules_import_no_torch(module):
    """What only reads records starts at once."""
    code = f"import sys, harness.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
