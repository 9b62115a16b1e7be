"""Verdicts from elsewhere on the answers of a run that is here: people's own, or another judge's.

The way round: ``export`` writes a run's answers beside its opponent's as AlpacaEval's
annotations; people (or another tool) write the preferences; they come back to the same run.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.conduct import store
from harness.errors import PlumblineError
from harness.interchange.alpaca import column_of, score_of
from harness.interchange.reading import File, field, named, only
from harness.interchange.stored import Key, Stored
from harness.judging.preferences import shares
from harness.records import Json, Score

PEOPLE = "label"  # the column that corrected win rates are corrected by
HUMAN = "human"  # an annotator of this name, or that begins so, is people


def attach(run: Stored, file: File) -> tuple[str, int]:
    """Write verdicts on a run's answers into it; give the column and how many there are.

    Raises PlumblineError for a verdict on an answer that the run does not have, or has in other
    words, and for two verdicts on one answer.
    """
    annotator = only((field(item, "annotator", str) for item in file.items), "annotator", file.name)
    column = PEOPLE if annotator.lower().startswith(HUMAN) else column_of(annotator)
    places = _places(run)
    found: dict[Key, Score] = {}
    strange, changed, twice = list[str](), list[str](), list[str]()
    values = shares([item.get("preference") for item in file.items])
    for item, share in zip(file.items, values, strict=True):
        key = _key(item, places)
        name = str(item.get("id") or field(item, "instruction", str))
        if key is None or key not in run.answers:
            strange.append(name)
        elif isinstance(item.get("output_2"), str) and item["output_2"] != run.answers[key]:
            changed.append(name)
        elif key in found:
            twice.append(name)
        else:
            found[key] = score_of(key, share, item)
    for wrong, why in (
        (strange, "that the run does not answer"),
        (changed, "whose output_2 is not the run's answer"),
        (twice, "more than once"),
    ):
        if wrong:
            raise PlumblineError(f"{file.name} judges {named(wrong, 'items')} {why}")
    with store.opened(run.folder, run.spec):
        lines = [store.canonical(found[key].to_json()) + "\n" for key in sorted(found)]
        store.write_text(run.folder / f"scores.{column}.jsonl", "".join(lines))
    return column, len(found)


def _places(run: Stored) -> dict[str, list[Key]]:
    """Give the answers to each question, by its words."""
    found: dict[str, list[Key]] = {}
    for prompt in run.prompts:
        for turn, words in enumerate((prompt.chat.last_user, *prompt.turns)):
            found.setdefault(words, []).append((prompt.id, turn))
    return found


def _key(item: Mapping[str, Json], places: Mapping[str, list[Key]]) -> Key | None:
    """Find an answer by the id it was exported with, else by a question nobody else asks."""
    if item.get("id"):
        return str(item["id"]), int(item.get("turn") or 0)
    same = places.get(field(item, "instruction", str), [])
    return same[0] if len(same) == 1 else None
