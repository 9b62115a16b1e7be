"""Our loop against ``model.generate``: plain sampling, block search, best-of-N."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from measure import Comparison, compare
from transformers import LlamaConfig, LlamaForCausalLM

from harness.chat import Chat
from harness.engine.decoding import Job, decode
from harness.engine.model import Model
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from harness.engine.tiny import _template, tiny_tokenizer


def random_model(
    width: int, layers: int, vocabulary: int, *, heads: int = 4, context: int = 1024
) -> Model:
    """Make a random Llama of a given size, whose answers run to the budget."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Model(LlamaForCausalLM(config), tokenizer, _template(tokenizer), name="random")


def jobs_of(model: Model, rows: int, tokens: int, how: Sampling) -> list[Job]:
    """Make prompts of exactly ``tokens`` tokens."""
    room = tokens - len(model.encode(Chat.of("")))
    return [Job(str(i), Chat.of((f"{i:04d}" + "x" * room)[:room]), how) for i in range(rows)]


def run_ours(
    model: Model, jobs: list[Job], steering: Steering | None = None, rows: int = 64
) -> Any:
    """Decode to the end."""
    return list(decode(model, jobs, steering, batch_rows=rows))


def run_generate(model: Model, jobs: list[Job], budget: int, **more: Any) -> Any:
    """Let the library do the same, batched and left-padded."""
    ids = [model.encode(j.chat) for j in jobs]
    longest = max(map(len, ids))
    pad = model.tokenizer.pad_token_id
    batch = torch.tensor([[pad] * (longest - len(x)) + x for x in ids])
    mask = torch.tensor([[0] * (longest - len(x)) + [1] * len(x) for x in ids])
    return model.net.generate(
        batch,
        attention_mask=mask,
        do_sample=True,
        top_k=0,
        max_new_tokens=budget,
        pad_token_id=pad,
        **more,
    )


def without_end(model: Model) -> Model:
    """Make every row run to the budget, in both loops."""
    model.ends = ()
    model.net.generation_config.eos_token_id = None
    return model


def plain(
    width: int, layers: int, vocabulary: int, heads: int, aim: float, what: str
) -> Comparison:
    """Compare tokens per second at batch 64, all rows running to the budget."""
    budget = 64
    model = without_end(random_model(width, layers, vocabulary, heads=heads))
    jobs = jobs_of(model, 64, 64, Sampling(max_new_tokens=budget))
    return compare(
        what, lambda: run_ours(model, jobs), lambda: run_generate(model, jobs, budget), aim
    )


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(plain(128, 4, 512, 4, 1.2, "testbed-sized model, batch 64").line(), flush=True)
    print(plain(256, 16, 512, 4, 0.97, "width 256 x 16 layers, batch 64").line(), flush=True)
