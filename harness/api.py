"""The one door: everything a method or a benchmark may import."""

from harness.chat import Chat, Message
from harness.contracts.backends import Canned, ChatBackend, Reply
from harness.contracts.benchmark import Benchmark, Read
from harness.contracts.method import Fitted, Kit, Lab, Method, Need
from harness.contracts.scorer import (
    Answered,
    Instruments,
    Pairwise,
    PairwiseScorer,
    Scorer,
    Verdict,
)
from harness.contracts.world import Report, World
from harness.engine.rows import Rows, Step
from harness.engine.sampling import Sampling, uniforms
from harness.engine.steering import (
    HiddenEdit,
    Search,
    Site,
    Steering,
    after_prompt,
    at_last,
)
from harness.errors import PlumblineError
from harness.records import Json, Preference, Prompt, Response, Score

__all__ = [
    "Answered",
    "Benchmark",
    "Canned",
    "Chat",
    "ChatBackend",
    "Fitted",
    "HiddenEdit",
    "Instruments",
    "Json",
    "Kit",
    "Lab",
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
    "Rows",
    "Sampling",
    "Score",
    "Scorer",
    "Search",
    "Site",
    "Steering",
    "Step",
    "Verdict",
    "World",
    "after_prompt",
    "at_last",
    "uniforms",
]
