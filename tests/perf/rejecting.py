"""Speculative rejection against best-of-n: tokens through both models, and time."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from decoding import jobs_of, random_model, run_ours, without_end
from measure import compare
from transformers import LlamaForSequenceClassification

from harness.chat import HUMAN_ASSISTANT
from harness.contracts.method import Fitted, Kit, Method
from harness.engine.model import Model
from harness.engine.reward import RewardModel
from harness.engine.sampling import Sampling
from harness.ledger import Ledger
from methods.best_of_n import BestOfN
from methods.speculative_rejection import SpeculativeRejection

WIDTH, DEPTH, PROMPT, DRAWN, N, PROMPTS = 128, 4, 64, 64, 16, 4
CHECKPOINTS = (16, 32, 48, 64)
AT_MOST = 0.6  # of best-of-n's tokens


def judge_of(model: Model) -> RewardModel:
    """Make a random reward model of the policy's size."""
    torch.manual_seed(1)
    config = type(model.net.config)(**model.net.config.to_dict())
    config.num_labels = 1
    net = LlamaForSequenceClassification(config)
    return RewardModel(net, model.tokenizer, HUMAN_ASSISTANT, name="random reward")


def main() -> None:
    """Print what is pushed through each model and how long it takes, no answer ending early."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    model = without_end(random_model(WIDTH, DEPTH, 512))
    judge = judge_of(model)
    jobs = jobs_of(model, PROMPTS, PROMPT, Sampling(max_new_tokens=DRAWN))
    spent: list[Ledger] = []
    ways: list[Method] = [SpeculativeRejection(N, 0.5, CHECKPOINTS), BestOfN(N)]
    steerings = [way.steer(Kit(model, reward=judge), Fitted()) for way in ways]
    for steering in steerings:
        with model.metered(Ledger()) as ledger, judge.metered(ledger):
            run_ours(model, jobs, steering)
        spent.append(ledger)
    ours, theirs = (ledger.tokens for ledger in spent)
    counts = {role: (ours[role], theirs[role]) for role in ("policy", "reward")}
    counts["both"] = (sum(ours.values()), sum(theirs.values()))
    for role, (mine, best) in counts.items():
        verdict = "ok" if mine <= AT_MOST * best else "ABOVE AIM"
        print(
            f"speculative rejection, b = {N}: tokens, {role:<30} {mine:9,d}    {best:9,d}      "
            f"x{mine / best:5.2f}  (aim <= {AT_MOST})  {verdict}"
        )
    print(
        compare(
            f"speculative rejection against best of {N}",
            lambda: run_ours(model, jobs, steerings[0]),
            lambda: run_ours(model, jobs, steerings[1]),
            1.0,
        ).line()
    )


if __name__ == "__main__":
    main()
