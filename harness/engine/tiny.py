"""A tiny random model with a byte tokenizer: for contract checks and examples, no download.

It says nothing sensible; it answers every question about plumbing.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.chat import Template
from harness.engine.model import Model, pick_template
from harness.engine.reward import RewardModel

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")


def tiny_tokenizer() -> Any:
    """Make a byte-level tokenizer: any text survives encoding and decoding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=SPECIAL[0],
        pad_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]),
        model_max_length=512,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _config(tokenizer: Any, **more: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.2,  # far from uniform, so that edits show
        **more,
    )


def _seeded(kind: Any, config: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config).eval()


def tiny_model(seed: int = 0) -> Model:
    """Make the policy."""
    from transformers import LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    net = _seeded(LlamaForCausalLM, _config(tokenizer), seed)
    return Model(net, tokenizer, tiny_template(tokenizer), name="tiny")


def tiny_reward(seed: int = 1) -> RewardModel:
    """Make the reward model."""
    from transformers import LlamaForSequenceClassification

    tokenizer = tiny_tokenizer()
    net = _seeded(LlamaForSequenceClassification, _config(tokenizer, num_labels=1), seed)
    return RewardModel(net, tokenizer, tiny_template(tokenizer), name="tiny-reward")


def tiny_template(tokenizer: Any) -> Template:
    """Give the tokenizer's own chat template."""
    return pick_template("tokenizer", tokenizer, "tiny")
