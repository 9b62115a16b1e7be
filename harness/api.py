"""The one door: everything a method or a benchmark may import."""

from harness.chat import Chat, Message
from harness.contracts.backends import Canned, ChatBackend, Reply
from harness.contracts.benchmark import Benchmark, Read
from harness.contracts.bounds import above, at_least, finite
from harness.contracts.judges import Judge, Labelled, Pairwise, Ruling, Single, Verdict
from harness.contracts.method import Fitted, Kit, Lab, Method, Need
from harness.contracts.scorer import Answered, Instruments, PairwiseScorer, Scorer
from harness.contracts.world import Report, World
from harness.engine.companion import Companion
from harness.engine.greedy import greedily
from harness.engine.prefixes import CandidateRewards
from harness.engine.rollouts import Rollouts
from harness.engine.rows import Rows, Step
from harness.engine.sampling import Sampling, uniforms
from harness.engine.segments import Segments
from harness.engine.steering import (
    HiddenEdit,
    Search,
    Site,
    Steering,
    after_prompt,
    at_last,
    best_of_each,
)
from harness.engine.tilting import Bonus, Lookahead, TokenRule, guided
from harness.errors import PlumblineError
from harness.judging.alpaca_eval import packaged
from harness.judging.fastchat import winner
from harness.judging.marks import grade, labelled, marks
from harness.progress import progress
from harness.records import Json, Preference, Prompt, Response, Score

__all__ = [
    "Answered",
    "Benchmark",
    "Bonus",
    "CandidateRewards",
    "Canned",
    "Chat",
    "ChatBackend",
    "Companion",
    "Fitted",
    "HiddenEdit",
    "Instruments",
    "Json",
    "Judge",
    "Kit",
    "Lab",
    "Labelled",
    "Lookahead",
    "Message",
    "Method",
    "Need",
    "Pairwise",
    "PairwiseScorer",
    "PlumblineError",
    "Preference",
    "Prompt",
    "Read",
    "Reply",
    "Report",
    "Response",
    "Rollouts",
    "Rows",
    "Ruling",
    "Sampling",
    "Score",
    "Scorer",
    "Search",
    "Segments",
    "Single",
    "Site",
    "Steering",
    "Step",
    "TokenRule",
    "Verdict",
    "World",
    "above",
    "after_prompt",
    "at_last",
    "at_least",
    "best_of_each",
    "finite",
    "grade",
    "greedily",
    "guided",
    "labelled",
    "marks",
    "packaged",
    "progress",
    "uniforms",
    "winner",
]
