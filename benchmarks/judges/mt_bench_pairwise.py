"""Compares two answers of MT-Bench in both orders; math, reasoning and coding beside a reference.

The scheme of Zheng et al., arXiv 2306.05685, in words of our own; a protocol that names
FastChat's judge_prompts.jsonl under ``prompts`` has it asked in FastChat's.
"""

from pathlib import Path

from harness.api import Pairwise, winner

JUDGE = Pairwise(
    template=Path(__file__).with_suffix(".txt").read_text(encoding="utf-8"),
    parse=winner,
    about="compares two answers of both turns, in both orders",
    system="You are a careful and fair judge of answers given by assistants.",
    max_tokens=2048,
    prompts="pair",
)
