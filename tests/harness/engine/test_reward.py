"""Rewards: one number a text, whatever it is batched with."""

import math

import pytest
import torch

from harness.chat import Chat
from harness.engine.model import pick_template
from harness.engine.reward import RewardModel
from harness.engine.steering import Search, Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger

CHATS = [Chat.of("hello"), Chat.of("What is the time?", "Be brief."), Chat.of("hello")]
CHATS += [Chat.of("a").assistant("b").user("c"), Chat.of("hello"), Chat.of("x " * 20)]
TEXTS = ["It is late.", "", "no", "the sun is down, and it is late", "It is late.", "yes"]
DECODERS = ("llama", "mistral-window", "qwen2", "gpt2", "gpt_neox", "falcon", "phi")


class Net(torch.nn.Module):
    """A stand-in classifier that answers from a function of its ids."""

    def __init__(self, answer, config):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.answer, self.config, self.seen = answer, config, []

    def forward(self, input_ids, attention_mask):
        """Answer."""
        self.seen.append((input_ids, attention_mask))

        class Out:
            logits = self.answer(input_ids)

        return Out


@pytest.mark.parametrize("name", DECODERS)
def test_a_batch_scores_as_one_by_one(make_reward, name):
    """Padding on the right and the company of other texts change no score."""
    reward = make_reward(name)
    together = reward.score(CHATS, TEXTS)
    alone = [reward.score([c], [t])[0] for c, t in zip(CHATS, TEXTS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len({round(v, 3) for v in together}) == 5
    small = make_reward(name, batch_size=2)
    assert small.score(CHATS, TEXTS) == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_a_score_is_the_head_at_the_last_token(make_reward, name):
    """The score is the library's for the unpadded text."""
    reward = make_reward(name)
    for chat, text in zip(CHATS, TEXTS, strict=True):
        ids = reward.tokenizer(reward.template.render(chat.assistant(text))).input_ids
        with torch.no_grad():
            backbone = getattr(reward.net, reward.net.base_model_prefix)
            hidden = backbone(torch.tensor([ids])).last_hidden_state[0, -1]
            expected = float(reward.net.score(hidden))
        assert reward.score([chat], [text])[0] == pytest.approx(expected, abs=1e-4)


def test_equal_texts_are_scored_once(make_reward):
    """The same answer to the same chat is read once."""
    reward = make_reward()
    with reward.metered(Ledger()) as ledger:
        found = reward.score([CHATS[0]] * 5, ["yes"] * 5)
    assert len(set(found)) == 1
    assert ledger.tokens["reward"] == len(reward.encode(CHATS[0], "yes"))
    assert ledger.forwards == {"reward": 1}


def test_texts_that_end_in_the_padding_id_are_read_to_their_end(make_reward, make_tokenizer):
    """Where padding is the end token, the score is still read at the end token."""
    reward = make_reward()
    vicuna = pick_template("vicuna", reward.tokenizer, "tiny")  # ends in </s>
    words = make_tokenizer("bytes")
    words.pad_token = words.eos_token
    closing = RewardModel(reward.net, words, vicuna, name="closing", max_length=400)
    ids = closing.encode(CHATS[0], "yes")
    assert ids[-1] == closing.pad == 2
    with torch.no_grad():
        hidden = reward.net.model(torch.tensor([ids])).last_hidden_state[0]
        end, before = reward.net.score(hidden[-1]), reward.net.score(hidden[-2])
    assert abs(float(end - before)) > 0.01
    together = closing.score(CHATS, TEXTS)
    assert closing.score(CHATS[:1], ["yes"])[0] == pytest.approx(float(end), abs=1e-4)
    alone = [closing.score([c], [t])[0] for c, t in zip(CHATS, TEXTS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)


def test_two_templates_are_two_readings(make_reward):
    """A reward model reads in its own template, whatever the policy's is."""
    plain, vicuna = make_reward(), make_reward(template="vicuna")
    own = make_reward(template="tokenizer")
    texts = [r.tokenizer.decode(r.encode(CHATS[0], "yes")) for r in (plain, vicuna, own)]
    assert texts[0] == "<s>\n\nHuman: hello\n\nAssistant: yes"
    assert texts[1].startswith("<s>A chat between")
    assert texts[1].endswith("USER: hello ASSISTANT: yes</s>")
    assert texts[2] == "<s>[user] hello\n[assistant] yes\n"
    scores = {round(r.score(CHATS[:1], ["yes"])[0], 4) for r in (plain, vicuna, own)}
    assert len(scores) == 3


def test_prompt_edits_never_reach_the_reward_model(llama, make_reward, make_jobs, answer):
    """Candidates of an edited prompt are scored as answers to the user's words."""
    reward = make_reward()
    jobs = make_jobs()
    edit = Steering(prompt=(lambda chats: [c.with_system("Be brief.") for c in chats],))
    for d in answer(llama, jobs, edit + Steering(search=Search(3, reward.of_rows))):
        scores = reward.score([jobs[d.job].chat] * 3, [c.text for c in d.pool])
        assert [c.score for c in d.pool] == pytest.approx(scores, abs=1e-4)
        assert d.text == max(d.pool, key=lambda c: c.score).text


def test_a_text_longer_than_the_model_reads_is_counted_and_not_cut(make_reward):
    """Such a text has no score; the others have theirs."""
    reward = make_reward(max_length=30)
    found = reward.score(CHATS, TEXTS)
    long = [len(reward.encode(c, t)) > 30 for c, t in zip(CHATS, TEXTS, strict=True)]
    assert [math.isnan(v) for v in found] == long
    assert any(long)
    assert not all(long)
    assert reward.too_long == len({p for p, x in zip(zip(CHATS, TEXTS), long) if x})  # noqa: B905
    assert make_reward().max_length == 160


def test_out_of_memory_halves_the_batch_of_texts(make_reward, monkeypatch):
    """A batch that does not fit is scored in halves; one text that does not fit is an error."""
    reward = make_reward()
    expected, whole, most = reward.score(CHATS, TEXTS), reward.net.forward, 2

    def small(*args, **kwargs):
        if len(kwargs["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return whole(*args, **kwargs)

    monkeypatch.setattr(reward.net, "forward", small)
    assert reward.score(CHATS, TEXTS) == pytest.approx(expected, abs=1e-4)
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        reward.score(CHATS, TEXTS)


def test_a_search_refuses_a_reward_of_nan(llama, make_reward, make_jobs, answer):
    """A candidate without a score stops the run with a line that names the prompt's words."""
    reward = make_reward(max_length=12)
    with pytest.raises(PlumblineError, match=r"tiny reward gives NaN .* answer to '"):
        answer(llama, make_jobs(), Steering(search=Search(2, reward.of_rows)))


def test_a_model_of_two_labels_is_no_reward_model(make_reward):
    """One number a text, or a clear refusal."""
    reward = make_reward()
    config = type(reward.net.config)(**reward.net.config.to_dict() | {"num_labels": 3})
    net = Net(lambda ids: torch.zeros(len(ids), 3), config)
    with pytest.raises(
        PlumblineError, match="two returns 3 numbers for a text; it must return one"
    ):
        RewardModel(net, reward.tokenizer, reward.template, name="two")


def test_an_encoder_is_padded_with_its_own_token(make_reward):
    """A classifier that is no decoder gets the tokenizer's padding and the mask."""
    reward = make_reward()
    net = Net(lambda ids: (ids > 0).sum(-1, keepdim=True).half(), reward.net.config)
    encoder = RewardModel(net, reward.tokenizer, reward.template, name="encoder")
    found = encoder.score(CHATS, TEXTS)
    assert found == [float(len(encoder.encode(c, t))) for c, t in zip(CHATS, TEXTS, strict=True)]
    ids, mask = net.seen[0]
    assert torch.equal(ids != 0, mask.bool())
    assert mask[:, 0].all()
    assert encoder.facts()["pooling"] == "the architecture's own"
    assert reward.facts()["pooling"] == "last real token"


def test_scoring_keeps_order_and_refuses_uneven_lists(make_reward):
    """Scores come in the order asked; a missing text is an error."""
    reward = make_reward()
    forward = reward.score(CHATS, TEXTS)
    assert reward.score(CHATS[::-1], TEXTS[::-1]) == pytest.approx(forward[::-1], abs=1e-4)
    assert reward.score([], []) == []
    with pytest.raises(ValueError, match="zip"):
        reward.score(CHATS, TEXTS[:2])
