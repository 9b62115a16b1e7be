"""Training of the four models, each a process of its own.

    python -m benchmarks.testbed.training ROLE FOLDER SEED

reads the tokenizer in FOLDER/tokenizer, writes FOLDER/ROLE and FOLDER/facts.ROLE.json, and
prints one line "fraction<TAB>what" per report.  Everything is drawn from the seed and the number
of steps is fixed, so the same machine gives the same weights.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForSequenceClassification
from transformers.utils import logging

from benchmarks.testbed import models
from benchmarks.testbed.dialogue import ALL_GOOD, Persona, Speaker, Writer, any_persona
from benchmarks.testbed.gold import Gold
from benchmarks.testbed.judging import judge_chat, length_score, share, verdict
from benchmarks.testbed.language import Language
from benchmarks.testbed.learning import (
    Encoder,
    Ids,
    Progress,
    Size,
    batches,
    fit,
    next_token_loss,
    padded,
)
from benchmarks.testbed.measuring import measure_judge, measure_policy, measure_reward
from benchmarks.testbed.preferences import Pairs
from harness.chat import Chat

POLICY = Size(128, 3, 850, 2048, 2e-2)
ALIGNED = Size(128, 3, 100, 2048, 5e-3)
REWARD = Size(96, 3, 420, 3072, 1e-2)
SIDE = 5  # what the side heads read: the three traits, gold, length
JUDGE = Size(96, 3, 450, 3072, 1e-2)


# --- policy and aligned ---


def policy_examples(
    language: Language, encoder: Encoder, persona: Callable[[], Persona], rng: random.Random
) -> Iterator[tuple[Ids, Ids]]:
    """Draw dialogues on the training tasks, of all topics."""
    writer = Writer(language, language.tasks["train"], rng)
    while True:
        speaker = persona()
        dialogue = writer.dialogue(speaker)
        answer = Speaker(language, speaker, rng).answer(dialogue.task)
        ids, written = encoder.chat(dialogue.chat.assistant(answer))
        yield ids, [int(flag) for flag in written]


def train_policy(role: str, folder: Path, seed: int, progress: Progress) -> dict[str, float]:
    """Train the base model on all personas, or go on from it with the all-good one."""
    language, tokenizer = Language(seed), AutoTokenizer.from_pretrained(folder / "tokenizer")
    rng = random.Random(f"testbed {role} {seed}")
    if role == "policy":
        size, model = POLICY, models.language_model(tokenizer, POLICY.width, POLICY.layers)
    else:
        size, model = ALIGNED, AutoModelForCausalLM.from_pretrained(folder / "policy")

    def persona() -> Persona:
        return any_persona(rng) if role == "policy" else ALL_GOOD

    examples = policy_examples(language, Encoder(tokenizer), persona, rng)
    stream = batches(examples, size.tokens, rng)

    def loss() -> torch.Tensor:
        batch = next(stream)
        ids = padded([example[0] for example in batch], tokenizer.pad_token_id)
        written = padded([example[1] for example in batch], 0)
        return next_token_loss(model, ids, written)

    final = fit(model, size, loss, progress, role)
    models.save(model, tokenizer, folder / role)
    return facts(model, final) | measure_policy(language, model, tokenizer)


# --- reward model and judge ---


def train_reward(folder: Path, seed: int, progress: Progress) -> dict[str, float]:
    """Train the reward model by Bradley-Terry on noisy, biased preference pairs.

    While it trains, a side head reads the traits off the same state; one bit a pair is too little
    to learn a language from.  The head is thrown away, and the score learns from the pairs alone.
    """
    language, tokenizer = Language(seed), AutoTokenizer.from_pretrained(folder / "tokenizer")
    rng = random.Random(f"testbed reward {seed}")
    encoder, pairs = Encoder(tokenizer), Pairs(language, "train", rng)
    model = models.reward_model(tokenizer, REWARD.width, REWARD.layers)
    model.side = torch.nn.Linear(REWARD.width, SIDE)

    def examples() -> Iterator[tuple[Ids, Ids, list[list[float]]]]:
        while True:
            pair = pairs.draw()
            chosen, rejected = (
                encoder.chat(pair.chat.assistant(text))[0] for text in pair.chosen_rejected
            )
            yield chosen, rejected, [pairs.traits(pair.chat, text) for text in pair.chosen_rejected]

    def length(example: tuple[Ids, Ids, list[list[float]]]) -> int:
        return 2 * max(len(example[0]), len(example[1]))

    stream = batches(examples(), REWARD.tokens, rng, length)

    def loss() -> torch.Tensor:
        batch = next(stream)
        rows = [example[0] for example in batch] + [example[1] for example in batch]
        traits = torch.tensor([example[2][side] for side in (0, 1) for example in batch])
        last = last_states(model, rows, tokenizer.pad_token_id)
        chosen, rejected = model.score(last).squeeze(-1).chunk(2)
        preference = -functional.logsigmoid(chosen - rejected).mean()
        centred = 0.005 * (chosen + rejected).square().mean()
        side = functional.mse_loss(model.side(last), traits)
        total: torch.Tensor = preference + centred + side
        return total

    final = fit(model, REWARD, loss, progress, "reward")
    del model.side
    models.save(model, tokenizer, folder / "reward")
    return facts(model, final) | measure_reward(language, model, tokenizer)


def last_states(
    model: LlamaForSequenceClassification, rows: Sequence[Ids], pad: int
) -> torch.Tensor:
    """Give the final state of each row's last token, [rows, width], as the saved model reads it."""
    hidden = model.model(input_ids=padded(rows, pad), use_cache=False).last_hidden_state
    last = torch.tensor([len(row) - 1 for row in rows])
    states: torch.Tensor = hidden[torch.arange(len(rows)), last]
    return states


def train_judge(folder: Path, seed: int, progress: Progress) -> dict[str, float]:
    """Train the judge to write verdicts.

    While it trains, a side head reads the traits off the last token of each answer; one verdict
    alone says too little about two answers to learn from.  The head is thrown away.
    """
    language, tokenizer = Language(seed), AutoTokenizer.from_pretrained(folder / "tokenizer")
    rng = random.Random(f"testbed judge {seed}")
    encoder, pairs, gold = Encoder(tokenizer), Pairs(language, "train", rng), Gold(language)
    model = models.language_model(tokenizer, JUDGE.width, JUDGE.layers)
    model.side = torch.nn.Linear(JUDGE.width, SIDE)

    def examples() -> Iterator[tuple[Ids, Ids, Ids, list[list[float]]]]:
        while True:
            pair = pairs.draw()
            texts = list(pair.chosen_rejected)
            rng.shuffle(texts)
            scores = [gold(pair.chat, text) for text in texts]
            lengths = [length_score(text) for text in texts]
            alike = share(language.fillers, *texts)
            words = verdict(scores[0], scores[1], lengths[0] - lengths[1], alike, rng)
            chat = judge_chat(pair.chat.last_user, *texts)
            ids, written = encoder.chat(chat.assistant(words))
            first = chat.last_user[: chat.last_user.index(texts[0]) + len(texts[0])]
            ends = [len(encoder.chat(Chat.of(text))[0]) - 2 for text in (first, chat.last_user)]
            targets = [pairs.traits(pair.chat, text) for text in texts]
            yield ids, [int(flag) for flag in written], ends, targets

    stream = batches(examples(), JUDGE.tokens, rng)

    def loss() -> torch.Tensor:
        batch = next(stream)
        ids = padded([example[0] for example in batch], tokenizer.pad_token_id)
        written = padded([example[1] for example in batch], 0)[:, 1:].bool()
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][written])
        ends = torch.tensor([example[2] for example in batch])
        targets = torch.tensor([example[3] for example in batch])
        read = model.side(hidden[torch.arange(len(batch))[:, None], ends])
        side = functional.mse_loss(read, targets)
        return functional.cross_entropy(logits, ids[:, 1:][written]) + side

    final = fit(model, JUDGE, loss, progress, "judge")
    del model.side
    models.save(model, tokenizer, folder / "judge")
    return facts(model, final) | measure_judge(language, model, tokenizer)


def facts(model: torch.nn.Module, loss: float) -> dict[str, float]:
    """Note the size and the final training loss (nats)."""
    return {"parameters": sum(p.numel() for p in model.parameters()), "loss": loss}


def train(role: str, folder: Path, seed: int, progress: Progress) -> dict[str, float]:
    """Train one of policy, aligned, reward and judge."""
    torch.manual_seed(seed * 1000 + ["policy", "aligned", "reward", "judge"].index(role))
    if role == "reward":
        return train_reward(folder, seed, progress)
    if role == "judge":
        return train_judge(folder, seed, progress)
    return train_policy(role, folder, seed, progress)


def main(arguments: Sequence[str]) -> None:
    """Train the role named on the command line, with one thread."""
    role, folder, seed = arguments[0], Path(arguments[1]), int(arguments[2])
    torch.set_num_threads(1)

    def progress(done: float, what: str) -> None:
        sys.stdout.write(f"{done:.4f}\t{what}\n")
        sys.stdout.flush()

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    measured = train(role, folder, seed, progress)
    (folder / f"facts.{role}.json").write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
