"""The numbers AlpacaEval's leaderboard has: win rates, lengths, and a rate adjusted for length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.conduct import store
from harness.judging import length_control, official
from harness.judging.preferences import HeadToHead, head_to_head
from harness.records import Json
from harness.report.columns import NONE, heading, in_order, labelled, number
from harness.report.comparison import Comparison, Result, judged
from harness.report.frames import REFERENCE, Run
from harness.report.markup import Grid, Notes, code, line
from harness.report.readings import Key
from harness.report.trust import is_opponent

INSTRUCTIONS = "23af2548ca"  # digest of the 805 instructions, in their published order


@dataclass(frozen=True)
class Published:
    """What may be called by a leaderboard's name: its judge, its reference, all its items."""

    title: str
    judge: str
    model: str
    reference: str  # digest of the reference's 805 outputs


BOARDS = (
    Published(
        "AlpacaEval 2", "weighted_alpaca_eval_gpt4_turbo", "gpt-4-1106-preview", "b8c5d101aa"
    ),
    Published("AlpacaEval 1", "alpaca_eval_gpt4", "gpt-4", "1e9da114a0"),
)


@dataclass(frozen=True)
class Entry:
    """One row against its opponent, by one judge.

    adjusted  length-controlled rate and standard error, in points; NaN where there is none.
    official  whether upstream's own regression made it.
    """

    result: Result
    run: Run
    scorer: str
    opponent: dict[Key, str]

    @cached_property
    def answers(self) -> dict[Key, str]:
        """Give the answers, in the order of the items."""
        found = {r.key: r.text for r in store.responses(self.run.folder)}
        return {key: found[key] for key in self._order if key in found}

    @cached_property
    def preferences(self) -> list[float | None]:
        """Give upstream's preferences: 1 the opponent, 2 the row."""
        scores = self.run.scores[self.scorer]
        found = [scores.get(key) for key in self.answers]
        return [None if s is None or s.value is None else 1 + s.value for s in found]

    @cached_property
    def counted(self) -> HeadToHead:
        """Count them."""
        return head_to_head(self.preferences)

    @property
    def characters(self) -> float:
        """Give the mean length of the answers."""
        lengths = [len(text) for text in self.answers.values()]
        return sum(lengths) / len(lengths) if lengths else math.nan

    def named(self, judge: str) -> str:
        """Give the leaderboard's name, or "" for what may not be called by it."""
        name, _, model = judge.partition("@")
        outputs = store.digest([self.opponent.get(key) for key in self.answers])
        for board in BOARDS:
            same = (name, model, outputs) == (board.judge, board.model, board.reference)
            if same and self._whole:
                return board.title
        return ""

    @cached_property
    def adjusted(self) -> tuple[float, float, bool]:
        """Give (rate, standard error, whether official); NaN without verdicts."""
        base = [self.opponent.get(key, "") for key in self.answers]
        texts = list(self.answers.values())
        if not self.counted.total:
            return math.nan, math.nan, False
        gamed = official.gamed_verdicts() if self._whole else None
        if gamed is not None:
            return *official.official_rate(self.preferences, base, texts, gamed), True
        lengths = [len(text) for text in texts]
        found = length_control.refit(self.preferences, [len(text) for text in base], lengths)
        return found.rate, found.standard_error, False

    @cached_property
    def _prompts(self) -> list[dict[str, Json]]:
        return store.read_lines(self.run.folder / "prompts.jsonl")

    @property
    def _order(self) -> list[Key]:
        return [(str(prompt["id"]), 0) for prompt in self._prompts]

    @cached_property
    def _whole(self) -> bool:
        asked = [prompt["chat"][-1]["content"] for prompt in self._prompts]
        return store.digest(asked) == INSTRUCTIONS and len(self.answers) == len(asked)


def entries(comparison: Comparison, scorer: str) -> list[Entry]:
    """Give the rows that a judge of AlpacaEval has judged; the first run of each."""
    found = []
    reference = comparison.reference
    for result in comparison.results:
        runs = [run for run in result.row.runs if scorer in run.scores]
        if not runs:
            continue
        theirs = _references(runs[0])
        if reference and is_opponent(reference.row, scorer):
            if result.row.label == REFERENCE:
                continue  # even with itself by definition
            theirs = {r.key: r.text for r in store.responses(reference.row.runs[0].folder)}
        found.append(Entry(result, runs[0], scorer, theirs))
    return found


def leaderboards(comparison: Comparison) -> list[Grid | Notes]:
    """Give a grid for each of AlpacaEval's judges, and what its columns say.

    Rows that may bear a leaderboard's name stand apart from those that may not.
    """
    blocks: list[Grid | Notes] = []
    for scorer in in_order(filter(_alpaca, comparison.scorers)):
        groups: dict[tuple[str, bool], list[Entry]] = {}
        for row in entries(comparison, scorer):
            name = row.named(scorer.partition("@")[2])
            groups.setdefault((name, row.adjusted[2]), []).append(row)
        for (name, is_official), rows in sorted(groups.items(), reverse=True):
            title = name or f"As on AlpacaEval's leaderboard: {heading(comparison, scorer)}"
            adjusted = "length-controlled" if is_official else "length-adjusted (ours)"
            header = ("method", "win rate", "discrete", "se", adjusted, "se of it",
                      "won–drawn–lost", "no verdict", "characters")  # fmt: skip
            lines = tuple((labelled(row.result), *map(line, _cells(row))) for row in rows)
            blocks += [Grid(title, header, lines), _legend(name, is_official)]
    return blocks


def board_records(comparison: Comparison) -> list[dict[str, object]]:
    """Give the leaderboard's records, one a row and judge, in the columns upstream uses."""
    return [
        {
            "": row.result.row.label,
            "judge": scorer.partition("@")[2],
            "board": row.named(scorer.partition("@")[2]) or "none",
            "win_rate": row.counted.win_rate,
            "standard_error": row.counted.standard_error,
            "n_wins": row.counted.wins,
            "n_wins_base": row.counted.wins_base,
            "n_draws": row.counted.draws,
            "n_total": row.counted.total,
            "discrete_win_rate": row.counted.discrete_win_rate,
            "avg_length": row.characters,
            **_lengths(*row.adjusted),
        }
        for scorer in in_order(filter(_alpaca, comparison.scorers))
        for row in entries(comparison, scorer)
    ]


def _lengths(rate: float, spread: float, is_official: bool) -> dict[str, object]:
    """Put the rate under its own name, never under the other's."""
    none = (math.nan, math.nan)
    upstream, ours = ((rate, spread), none) if is_official else (none, (rate, spread))
    names = ("length_controlled_winrate", "lc_standard_error", "length_adjusted_ours", "its_se")
    return dict(zip(names, (*upstream, *ours), strict=True))


def _cells(row: Entry) -> Sequence[str]:
    counted, (rate, spread, _) = row.counted, row.adjusted
    return (
        number(counted.win_rate, 2),
        number(counted.discrete_win_rate, 2),
        number(counted.standard_error, 2),
        number(rate, 2),
        number(spread, 2),
        f"{counted.wins}–{counted.draws}–{counted.wins_base}",
        str(counted.unjudged),
        number(row.characters, 0) if row.answers else NONE,
    )


def _legend(title: str, is_official: bool) -> Notes:
    name = "The name" if title else "Not on the board"
    why = (
        f"{title}: its judge, its reference and all its 805 items"
        if title
        else "AlpacaEval 2 and 1 are the names of one judge, one reference and all 805 items each; "
        "this is another comparison, by the same arithmetic"
    )
    adjusted = (
        line("length: length-controlled by alpaca_eval's own regression and its gamed models")
        if is_official
        else line(
            f"length: {length_control.NAME}: tanh of the difference in length, fitted to the "
            "row's own verdicts; it is not the published length-controlled rate, which needs ",
            code(official.FETCH),
            " and all 805 items",
        )
    )
    lines = (
        line(f"{name}: {why}"),
        line("in points: 100 is every item won; a weighed verdict counts by its share"),
        adjusted,
        line("se: standard error over items taken as independent, as the leaderboard has it; "
             "it leaves out how much a judge differs from one day to another"),
    )  # fmt: skip
    return Notes("About these numbers", lines)


def _alpaca(scorer: str) -> bool:
    return judged(scorer) and "alpaca_eval" in scorer.partition("@")[2].partition("@")[0]


def _references(run: Run) -> dict[Key, str]:
    return {
        (str(line["id"]), turn): str(text)
        for line in store.read_lines(run.folder / "prompts.jsonl")
        for turn, text in enumerate((line.get("reference"), *(line.get("further") or ())))
        if text is not None
    }
