"""The world's Hugging Face folders: tokenizer, random policy, and a reward model set by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.planted.language import (
    ASSISTANT,
    END,
    PAD,
    PROXY_SCALE,
    TEMPLATE,
    UNKNOWN,
    USER,
    VOCABULARY,
    Language,
)

CONTEXT = 256
WIDTH = 16
LAYERS = 4
MARKER_BIAS = -4.0  # makes markers rare in answers, not impossible
UNKNOWN_BIAS = -1.0  # and the unknown word seldom
END_SCALE = 0.25  # the end's logit varies less than the words', so every prompt gets all lengths
LOGIT_SCALE = 0.25  # times sqrt(WIDTH): standard deviation of the random logits
_CONSTANT = 2.0  # size of the one coordinate of the policy that nothing writes to
_BULK = 4096.0  # see ``save_reward``


def save_tokenizer(folder: Path) -> None:
    """Write a word-level tokenizer; whatever it does not know is read as ``?``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=UNKNOWN)
    )
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    outer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
    outer.save_pretrained(folder)


def config(**changes: Any) -> Any:
    """Give the architecture shared by the world's models; 10,640 parameters for the policy."""
    from transformers import LlamaConfig

    settings: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": VOCABULARY.index(END),
        "pad_token_id": VOCABULARY.index(PAD),
        "dtype": "float32",
    }
    return LlamaConfig(**(settings | changes))


def save_policy(folder: Path, seed: int) -> None:
    """Write a random Llama whose next-token distributions are far from uniform.

    Coordinate 0 of the residual stream is the same at every position and carries a
    bias that makes the markers rare; everything else is Gaussian.
    """
    from transformers import LlamaForCausalLM

    net = LlamaForCausalLM(config())
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(net.named_parameters()):
            if weight.dim() == 2:
                scale = weight.shape[1] ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=rng) * scale)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight[0] = 0.0
        net.model.embed_tokens.weight.mul_(WIDTH**0.5)
        net.model.embed_tokens.weight[:, 0] = _CONSTANT
        net.lm_head.weight.mul_(LOGIT_SCALE * WIDTH**0.5)
        net.lm_head.weight[:, 0] = 0.0
        net.lm_head.weight[VOCABULARY.index(END)] *= END_SCALE
        for marker in (PAD, USER, ASSISTANT):
            net.lm_head.weight[VOCABULARY.index(marker), 0] = MARKER_BIAS
        net.lm_head.weight[VOCABULARY.index(UNKNOWN), 0] = UNKNOWN_BIAS
    save(net, folder)


def save_reward(folder: Path, language: Language) -> None:
    """Write the reward model whose score is ``language.proxy``, in closed form.

    One block.  Queries and keys are zero, so attention is the mean over the conversation;
    values are the tokens' weights; the mean is added to a free coordinate that the
    score reads.  A token's embedding is so long that the mean does not move its norm, so
    the final norm divides by a constant and the score is linear to 1e-7.
    """
    from transformers import LlamaForSequenceClassification

    net = LlamaForSequenceClassification(config(num_hidden_layers=1, num_labels=1))
    read, free = WIDTH**0.5, len(VOCABULARY)  # a one-hot embedding is sqrt(WIDTH) after a norm
    blank(net)
    with torch.no_grad():
        net.model.embed_tokens.weight[:, : len(VOCABULARY)] = _BULK * torch.eye(len(VOCABULARY))
        attention = net.model.layers[0].self_attn
        weights = torch.tensor(language.proxy_weights())
        attention.v_proj.weight[0, : len(VOCABULARY)] = weights / read
        attention.o_proj.weight[free, 0] = 1.0
        net.score.weight[0, free] = PROXY_SCALE * _BULK / read
    save(net, folder)


def blank(net: Any) -> None:
    """Set every matrix to zero; the norms keep their ones."""
    with torch.no_grad():
        for weight in net.parameters():
            if weight.dim() == 2:
                weight.zero_()


def save(net: Any, folder: Path) -> None:
    """Write a model with its tokenizer, quietly."""
    from transformers.utils import logging

    if getattr(net, "generation_config", None) is not None:
        net.generation_config.eos_token_id = net.config.eos_token_id
        net.generation_config.pad_token_id = net.config.pad_token_id
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        net.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()
    save_tokenizer(folder)
