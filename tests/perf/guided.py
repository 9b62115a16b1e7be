"""Guided decoding against the unsteered loop, and ARGS against the scheme it was published with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from decoding import jobs_of, random_model, run_ours, without_end
from measure import Comparison, compare
from transformers import DynamicCache, LlamaForSequenceClassification

from harness.chat import HUMAN_ASSISTANT
from harness.contracts.method import Fitted, Kit
from harness.engine.jobs import Job
from harness.engine.model import Model
from harness.engine.packed import Packed
from harness.engine.reward import RewardModel
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from methods._second_network import SecondNetwork
from methods._value_head import ValueHead
from methods.controlled_decoding import ControlledDecoding
from methods.reward_guided import RewardGuided

WIDTH, DEPTH, PROMPT, DRAWN, K = 512, 16, 64, 32, 10
RUNS = 3
BATCHES = (1, 16)


def judge_of(model: Model) -> RewardModel:
    """Make a random reward model of the policy's size, whose template closes no answer."""
    torch.manual_seed(1)
    config = type(model.net.config)(**model.net.config.to_dict())
    config.num_labels = 1
    net = LlamaForSequenceClassification(config)
    return RewardModel(net, model.tokenizer, HUMAN_ASSISTANT, name="random reward")


def guided(model: Model, judge: RewardModel) -> dict[str, Steering]:
    """Steer each way, with random weights: what is chosen does not matter here."""
    kit = Kit(model, reward=judge, sampling=Sampling(max_new_tokens=DRAWN))
    head = ValueHead.drawn(WIDTH, WIDTH, 3, torch.Generator().manual_seed(0))
    learnt = Fitted(head.tensors(), {"strength": 1.0})
    rows = SecondNetwork.of(kit, "vocabulary")
    return {
        "hidden": ControlledDecoding(k=K, strength=1.0).steer(kit, learnt),
        "vocabulary": ControlledDecoding(form="vocabulary", k=K, strength=1.0).steer(
            kit, Fitted(rows.tensors(), {"strength": 1.0})
        ),
        "block": ControlledDecoding(rule="block", width=4, block=16).steer(kit, learnt),
        "args": RewardGuided(k=K).steer(kit, Fitted()),
    }


def against_unsteered(
    model: Model, steered: dict[str, Steering], batch: int
) -> Iterator[Comparison]:
    """Time whole runs."""
    jobs = jobs_of(model, batch, PROMPT, Sampling(max_new_tokens=DRAWN))
    aims = (
        ("hidden", "token-wise, hidden form, k = 10, fused", (2.0, 5.0)),
        ("block", "block-wise, K = 4, M = 16", (2.5, 4.5)),
        ("args", "ARGS, k = 10, packed", (3.5, 6.0)),
    )
    for name, what, at_most in aims:
        limit = at_most[BATCHES.index(batch)]
        yield compare(
            f"{what}, batch {batch}",
            lambda name=name: run_ours(model, jobs, steered[name]),
            lambda: run_ours(model, jobs),
            1 / limit,
            runs=RUNS,
            note=f"(at most x{limit:g} the time)",
        )


@torch.no_grad()
def second_alone(model: Model, jobs: list[Job]) -> None:
    """Push what a second network must read through it: the prompts, then a token a step."""
    ids = torch.tensor([model.encode(j.chat) for j in jobs])
    packed = Packed(model.net.base_model, lambda _: None, len(jobs))
    packed.feed(ids, torch.ones_like(ids, dtype=torch.bool))
    token = ids[:, :1]
    for _ in range(DRAWN - 1):
        packed.feed(token, torch.ones_like(token, dtype=torch.bool))


def vocabulary(model: Model, steered: dict[str, Steering], batch: int) -> str:
    """Take the second network's own time off the vocabulary form's."""
    jobs = jobs_of(model, batch, PROMPT, Sampling(max_new_tokens=DRAWN))

    def unsteered() -> object:
        return run_ours(model, jobs)

    whole = compare(
        "", lambda: run_ours(model, jobs, steered["vocabulary"]), unsteered, 1, runs=RUNS
    )
    own = compare("", lambda: second_alone(model, jobs), unsteered, 1, runs=RUNS)
    rest = 1 / whole.ratio - 1 / own.ratio
    verdict = "ok" if rest <= 1.2 else "ABOVE AIM"
    name = f"token-wise, vocabulary form, batch {batch}, less its network"
    return (
        f"{name:<58} x{1 / whole.ratio:5.2f} - x{1 / own.ratio:5.2f} = x{rest:5.2f} "
        f"of unsteered (aim <= 1.2)  {verdict}"
    )


@torch.no_grad()
def published(model: Model, judge: RewardModel, jobs: list[Job]) -> int:
    """Run ARGS as released: a prompt at a time, the reward model's cache copied k times.

    Gives the bytes of the largest reward-model cache.
    """
    largest = 0
    for job in jobs:
        ids = torch.tensor([model.encode(job.chat)])
        cache = DynamicCache(config=model.net.config)
        copies = DynamicCache(config=model.net.config)
        logits = model.net(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1]
        read = ids.expand(K, -1)  # the first step reads k copies of the prompt
        for step in range(DRAWN):
            top = logits.topk(K).indices[0]
            fresh = torch.cat([read, top[:, None]], dim=1) if step == 0 else top[:, None]
            out = judge.net.base_model(input_ids=fresh, past_key_values=copies, use_cache=True)
            rewards = judge.net.score(out.last_hidden_state[:, -1])[:, 0]
            best = int((logits[0, top] + rewards).argmax())
            copies.batch_select_indices(torch.full((K,), best))
            largest = max(largest, _size(copies))
            token = top[best].view(1, 1)
            logits = model.net(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1]
    return largest


def _size(cache: DynamicCache) -> int:
    return sum(
        t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values)
    )


def against_published(model: Model, judge: RewardModel, steered: dict[str, Steering]) -> list[str]:
    """Compare time a token at batch 16, and the reward model's cache for one prompt."""
    jobs = jobs_of(model, 16, PROMPT, Sampling(max_new_tokens=DRAWN))
    time = compare(
        "ARGS, k = 10, batch 16, against the published scheme",
        lambda: run_ours(model, jobs, steered["args"]),
        lambda: published(model, judge, jobs),
        4.0,
        runs=RUNS,
    )
    config = model.net.config
    columns = PROMPT + DRAWN
    per = 2 * columns * config.num_key_value_heads * config.head_dim * 4 * DEPTH
    theirs = published(model, judge, jobs[:1])
    ratio = theirs / per
    verdict = "ok" if ratio >= K - 0.5 else "BELOW AIM"
    return [
        time.line(),
        f"{'  its reward model cache for one prompt, bytes':<58} {per:9,d}    {theirs:9,d}      "
        f"x{ratio:5.2f}  (aim >= {K - 0.5:g})  {verdict}",
    ]


def main() -> None:
    """Print every comparison, with the threads it was made on."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    threads = torch.get_num_threads()
    print(f"{threads} threads, torch {torch.__version__}; medians of {RUNS}")
    print(f"{'':<58} {'ours':>12} {'reference':>12}")
    model = without_end(random_model(WIDTH, DEPTH, 512, heads=8))
    judge = judge_of(model)
    steered = guided(model, judge)
    for batch in BATCHES:
        for comparison in against_unsteered(model, steered, batch):
            print(comparison.line(), flush=True)
        print(vocabulary(model, steered, batch), flush=True)
    for line in against_published(model, judge, steered):
        print(line, flush=True)


if __name__ == "__main__":
    main()
