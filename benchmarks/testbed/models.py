"""The world's tokenizer and the sizes of its models."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from benchmarks.testbed.dialogue import Speaker, Writer, any_persona
from benchmarks.testbed.judging import judge_chat, verdicts
from benchmarks.testbed.language import Language

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CONTEXT = 1024
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VOCABULARY = 1600
TOKENIZER_DIALOGUES = 3000


def train_tokenizer(language: Language) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on the world's text; every other text is encoded without loss too."""
    rng = random.Random(f"testbed tokenizer {language.seed}")
    writer = Writer(language, language.tasks["train"], rng)
    texts = list(verdicts())
    for _ in range(TOKENIZER_DIALOGUES):
        persona = any_persona(rng)
        dialogue = writer.dialogue(persona)
        texts += [message.text for message in dialogue.chat.messages]
        texts.append(Speaker(language, persona, rng).answer(dialogue.task))
        texts.append(judge_chat("", "", "").messages[0].text)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[PAD, BOS, END, *ROLES],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def config(
    tokenizer: PreTrainedTokenizerFast, width: int, layers: int, **more: object
) -> LlamaConfig:
    """Describe a small Llama."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **more,
    )


def language_model(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> LlamaForCausalLM:
    """Make a small decoder with fresh weights."""
    model = LlamaForCausalLM(config(tokenizer, width, layers))
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        do_sample=True,
    )
    return model


def reward_model(
    tokenizer: PreTrainedTokenizerFast, width: int, layers: int
) -> LlamaForSequenceClassification:
    """Make a small scorer with fresh weights; it reads the last token that is not padding."""
    return LlamaForSequenceClassification(config(tokenizer, width, layers, num_labels=1))


def save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model and tokenizer as an ordinary Hugging Face folder."""
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
