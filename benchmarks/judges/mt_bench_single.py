"""Grades an answer of MT-Bench from 1 to 10; math, reasoning and coding beside a reference.

The scheme of Zheng et al., arXiv 2306.05685, in words of our own; a protocol that names
FastChat's judge_prompts.jsonl under ``prompts`` has it asked in FastChat's.
"""

from pathlib import Path

from harness.api import Single, grade

JUDGE = Single(
    template=Path(__file__).with_suffix(".txt").read_text(encoding="utf-8"),
    parse=grade,
    about="grades each answer of both turns from 1 to 10",
    system="You are a careful and fair judge of answers given by assistants.",
    max_tokens=2048,
    prompts="single",
)
