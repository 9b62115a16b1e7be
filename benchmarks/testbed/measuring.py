"""What is measured on a freshly trained model; it goes into the world's ``facts.json``.

Measured on the development tasks, so the test items stay untouched.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.judges.testbed_pairwise import parse
from benchmarks.testbed.dialogue import Writer, any_persona
from benchmarks.testbed.gold import Gold
from benchmarks.testbed.judging import judge_chat, length_score
from benchmarks.testbed.language import Language
from benchmarks.testbed.preferences import Pair, Pairs
from harness.chat import Chat

KIND_SENTENCE = "You are a helpful, careful and polite assistant."
CLEAR = 1.0  # a pair is clear if its gold rewards differ by that much
MAX_TOKENS = 100


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    chats: Sequence[Chat],
    *,
    sample: bool = True,
    max_tokens: int = MAX_TOKENS,
    batch: int = 64,
) -> list[str]:
    """Answer conversations with Hugging Face's own ``generate``, at temperature 1 or greedily."""
    answers: list[str] = []
    tokenizer.padding_side = "left"
    options = {"do_sample": True, "top_k": 0} if sample else {"do_sample": False}
    for start in range(0, len(chats), batch):
        prompts = [
            tokenizer.apply_chat_template(
                chat.to_dicts(), tokenize=False, add_generation_prompt=True
            )
            for chat in chats[start : start + batch]
        ]
        inputs = _encode(tokenizer, prompts)
        ids = model.generate(**inputs, **options, max_new_tokens=max_tokens)  # type: ignore[operator]
        answers += tokenizer.batch_decode(
            ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
    return answers


@torch.no_grad()
def rewards(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat]
) -> np.ndarray:
    """Score answered conversations with the reward model, [conversations]."""
    scores: list[float] = []
    tokenizer.padding_side = "right"
    for start in range(0, len(chats), 64):
        texts = [
            tokenizer.apply_chat_template(chat.to_dicts(), tokenize=False)
            for chat in chats[start : start + 64]
        ]
        scores += model(**_encode(tokenizer, texts)).logits[:, 0].tolist()
    return np.array(scores)


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> dict[str, torch.Tensor]:
    coded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    return {name: coded[name] for name in ("input_ids", "attention_mask")}


def measure_policy(
    language: Language, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast
) -> dict[str, float]:
    """Mean gold reward of sampled answers, without and with a kind system sentence."""
    rng, gold = random.Random(f"testbed measure {language.seed}"), Gold(language)
    writer = Writer(language, language.tasks["dev"], rng)
    chats = [writer.dialogue(any_persona(rng), turns=1, system=False).chat for _ in range(128)]
    facts: dict[str, float] = {}
    for name, asked in (
        ("plain", chats),
        ("prompted", [chat.with_system(KIND_SENTENCE) for chat in chats]),
    ):
        answers = generate(model, tokenizer, asked)
        scores = [gold(chat, answer) for chat, answer in zip(chats, answers, strict=True)]
        for part in scores[0]:
            facts[f"{name} {part}"] = float(np.mean([score[part] for score in scores]))
    return facts


def measure_reward(
    language: Language, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast
) -> dict[str, float]:
    """Pair accuracy, correlation with gold, and the biases as the model has learned them."""
    pairs, gold = _dev_pairs(language, 512), Gold(language)
    chats = [pair.chat.assistant(side) for pair in pairs for side in pair.chosen_rejected]
    scores = rewards(model, tokenizer, chats)
    parts = [gold(pair.chat, side) for pair in pairs for side in pair.chosen_rejected]
    truth = np.array([part["gold"] for part in parts])
    lengths = [length_score(side) for pair in pairs for side in pair.chosen_rejected]
    design = np.stack([truth, [p["polite"] for p in parts], lengths, np.ones(len(truth))], axis=1)
    slope, polite, length, _ = np.linalg.lstsq(design, scores, rcond=None)[0]
    margins, true_margins = scores[::2] - scores[1::2], truth[::2] - truth[1::2]
    return {
        "pair accuracy on labels": float(np.mean(margins > 0)),
        "pair accuracy on gold": float(np.mean(margins * true_margins > 0)),
        "correlation with gold": float(np.corrcoef(scores, truth)[0, 1]),
        "learned politeness halo, gold points": float(polite / slope),
        "learned length bias, gold points per standard deviation": float(length / slope),
    }


def measure_judge(
    language: Language, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast
) -> dict[str, float]:
    """Agreement with gold on clear pairs, and how often order, ties and words get in the way."""
    pairs, gold = _dev_pairs(language, 256), Gold(language)
    verdicts = [
        [
            parse(text)
            for text in generate(
                model,
                tokenizer,
                [judge_chat(pair.chat.last_user, *pair.chosen_rejected[::order]) for pair in pairs],
                sample=False,
                max_tokens=16,
            )
        ]
        for order in (1, -1)
    ]
    agree, clear = 0, 0
    for pair, first, second in zip(pairs, *verdicts, strict=True):
        margin = gold(pair.chat, pair.chosen)["gold"] - gold(pair.chat, pair.rejected)["gold"]
        if abs(margin) >= CLEAR:
            for said, better in ((first, "A"), (second, "B")):
                if said in ("A", "B"):
                    clear += 1
                    agree += (said == better) == (margin > 0)
    both = [(a, b) for a, b in zip(*verdicts, strict=True) if a in ("A", "B") and b in ("A", "B")]
    flat = [said for order in verdicts for said in order]
    return {
        "agreement with gold on clear pairs": agree / max(1, clear),
        "flip rate under a swap": sum(a == b for a, b in both) / max(1, len(both)),
        "first answer preferred": flat.count("A") / max(1, flat.count("A") + flat.count("B")),
        "ties": flat.count("tie") / len(flat),
        "unparsed": flat.count(None) / len(flat),
    }


def _dev_pairs(language: Language, count: int) -> list[Pair]:
    rng = random.Random(f"testbed measure {language.seed}")
    pairs = Pairs(language, "dev", rng, system=False)
    return [pairs.draw(damaged=0.05) for _ in range(count)]
