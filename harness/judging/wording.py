"""A judge asked in FastChat's words, where the user has its file of prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.chat import Chat
from harness.contracts.judges import Facts, Judge
from harness.errors import PlumblineError
from harness.judging import fastchat


def reworded(name: str, judge: Judge, path: Path) -> Judge:
    """Put FastChat's prompts and parsers in place of a judge's own.

    Raises PlumblineError for a judge that they are not meant for, or a file that is none.
    """
    kind = judge.prompts
    if kind == "":
        raise PlumblineError(
            f"[judging.{name}] prompts: only a judge of MT-Bench can be asked in FastChat's words"
        )
    prompts = fastchat.read_prompts(path)
    sides = ("answer",) if kind == "single" else ("answer_a", "answer_b")

    def wording(facts: Facts) -> Chat:
        named = fastchat.prompt_name(kind, facts["category"], facts["turn"])
        prompt = fastchat.chosen(prompts, named)
        texts = {side: facts[side.replace("answer", "answers")] for side in sides}
        values = fastchat.values(facts["questions"], texts, facts["references"], facts["turn"])
        return Chat.of(prompt.render(values), prompt.system)

    return replace(
        judge,
        template=path.read_text("utf-8"),  # part of what scores are known by
        wording=wording,
        parse=fastchat.rating if kind == "single" else fastchat.winner,
    )
