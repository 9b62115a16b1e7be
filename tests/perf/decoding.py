"""Our loop against ``model.generate``: plain sampling, block search, best-of-N."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from measure import Comparison, compare
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from harness.chat import Chat
from harness.engine.decoding import Job, decode
from harness.engine.model import Model
from harness.engine.rows import Rows, Step
from harness.engine.sampling import Sampling
from harness.engine.steering import Search, Steering
from harness.engine.tiny import tiny_template, tiny_tokenizer
from harness.ledger import Ledger


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
    return Model(LlamaForCausalLM(config), tokenizer, tiny_template(tokenizer), name="random")


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


def plain(width: int, layers: int, vocabulary: int, aim: float, what: str) -> Comparison:
    """Compare tokens per second at batch 64, all rows running to the budget."""
    budget = 64
    model = without_end(random_model(width, layers, vocabulary))
    jobs = jobs_of(model, 64, 64, Sampling(max_new_tokens=budget))
    return compare(
        what, lambda: run_ours(model, jobs), lambda: run_generate(model, jobs, budget), aim
    )


# Tokens of 64 unsteered answers on the testbed's hh_rlhf, in the order they were asked.
TESTBED_LENGTHS = (
    71, 58, 58, 56, 61, 63, 53, 57, 61, 59, 73, 75, 59, 53, 78, 78,
    52, 54, 62, 55, 64, 79, 57, 72, 66, 58, 68, 61, 57, 60, 40, 67,
    55, 59, 53, 71, 62, 70, 69, 70, 66, 53, 66, 53, 51, 67, 60, 61,
    52, 64, 61, 56, 43, 59, 73, 50, 53, 61, 55, 56, 62, 67, 66, 53,
)  # fmt: skip


class _EndsAt(LogitsProcessor):
    """End row i after ``lengths[i]`` tokens, in the library's loop."""

    def __init__(self, prompt: int, lengths: torch.Tensor, end: int) -> None:
        self.prompt, self.lengths, self.end = prompt, lengths, end

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = ids.shape[1] - self.prompt
        return _ended(scores, drawn, self.lengths, self.end)


def _ended(scores: torch.Tensor, drawn: int, lengths: torch.Tensor, end: int) -> torch.Tensor:
    scores = scores.clone()
    scores[:, end] = float("-inf")
    over = drawn >= lengths - 1
    scores[over] = float("-inf")
    scores[over, end] = 0.0
    return scores


def spread(width: int, layers: int, aim: float) -> Comparison:
    """Compare where answers end at different lengths: finished rows leave our batch."""
    budget = max(TESTBED_LENGTHS)
    model = random_model(width, layers, 512)
    jobs = jobs_of(model, 64, 64, Sampling(max_new_tokens=budget))
    lengths, end = torch.tensor(TESTBED_LENGTHS), model.ends[0]
    prompt = len(model.encode(jobs[0].chat))

    def edit(scores: torch.Tensor, step: Step) -> torch.Tensor:
        return _ended(scores, step.index, lengths[step.rows.origin], end)

    steering = Steering(logits=(edit,))
    processor = LogitsProcessorList([_EndsAt(prompt, lengths, end)])
    return compare(
        f"width {width} x {layers} layers, lengths spread as on the testbed",
        lambda: run_ours(model, jobs, steering),
        lambda: run_generate(model, jobs, budget, logits_processor=processor),
        aim,
    )


def score_by_sum(rows: Rows) -> torch.Tensor:
    """Score a candidate by its token ids: cheap, so that decoding is what is timed."""
    return rows.ids[:, : rows.drawn].sum(-1).double()


def block_search(width: int, layers: int) -> list[str]:
    """Search 8 candidates in 4 blocks of 16; the reference re-prefills each block."""
    model = without_end(random_model(width, layers, 512))
    jobs = jobs_of(model, 8, 64, Sampling(max_new_tokens=64))
    search = Search(width=8, score=score_by_sum, blocks=16)
    pad = model.tokenizer.pad_token_id

    def generate() -> int:
        pushed = 0
        texts = torch.tensor([model.encode(j.chat) for j in jobs])
        for _ in range(4):
            mask = torch.ones_like(texts)
            grown = model.net.generate(
                texts, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=16,
                num_return_sequences=8, pad_token_id=pad,
            )  # fmt: skip
            pushed += grown.shape[0] * (texts.shape[1] + 15)
            drawn = grown[:, texts.shape[1] :].sum(-1).view(len(jobs), 8)
            best = drawn.argmax(-1) + 8 * torch.arange(len(jobs))
            texts = grown[best]
        return pushed

    ledger = Ledger()
    with model.metered(ledger):
        run_ours(model, jobs, Steering(search=search))
    time = compare(
        f"block search 8 x 4 blocks of 16, width {width} x {layers}",
        lambda: run_ours(model, jobs, Steering(search=search)),
        generate,
        2.0,
    )
    return [time.line(), tokens("  its tokens through the model", ledger, generate(), 3.0)]


def best_of_n(width: int, layers: int) -> list[str]:
    """Draw 8 whole candidates; the reference expands the batch before it prefills."""
    model = without_end(random_model(width, layers, 512))
    jobs = jobs_of(model, 8, 64, Sampling(max_new_tokens=64))
    steering = Steering(search=Search(width=8, score=score_by_sum))
    ledger = Ledger()
    with model.metered(ledger):
        run_ours(model, jobs, steering)
    pushed = 8 * 8 * (len(model.encode(jobs[0].chat)) + 63)
    time = compare(
        f"best of 8, width {width} x {layers}",
        lambda: run_ours(model, jobs, steering),
        lambda: run_generate(model, jobs, 64, num_return_sequences=8),
        1.0,
    )
    return [time.line(), tokens("  its tokens through the model", ledger, pushed, 1.7)]


def tokens(what: str, ledger: Ledger, reference: int, aim: float) -> str:
    """Say how many fewer tokens went through the model."""
    ours = ledger.tokens["policy"]
    ratio = reference / ours
    verdict = "ok" if ratio >= aim else "BELOW AIM"
    return (
        f"{what:<58} {ours:9,d}    {reference:9,d}      x{ratio:5.2f}  (aim >= {aim:g})  {verdict}"
    )


def main() -> None:
    """Print every comparison, with the threads it was made on."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; medians of 5")
    print(f"{'':<58} {'ours':>12} {'reference':>12}")
    print(plain(128, 4, 1024, 1.2, "size of the testbed's model, batch 64").line(), flush=True)
    print(plain(256, 16, 512, 0.97, "width 256 x 16 layers, batch 64").line(), flush=True)
    print(spread(256, 16, 1.2).line(), flush=True)
    for line in (*block_search(256, 16), *best_of_n(256, 16)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
