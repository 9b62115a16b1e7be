"""What tuning may see: development prompts and the granted reward, and nothing rows end by.

While settings are tried the protocol names no benchmark, and the truth and the evaluation
reward raise when they are asked for.  Benchmarks' questions are read once, before that, for
one purpose: to leave out of the development pairs whatever they ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NoReturn

from harness.chat import Chat
from harness.conduct.questions import Questions, Training
from harness.conduct.setting import Setting
from harness.contracts.benchmark import Benchmark, Read
from harness.engine.sampling import Sampling
from harness.errors import PlumblineError
from harness.records import Json, Prompt

if TYPE_CHECKING:
    from harness.engine.reward import RewardModel

FEWEST = 8  # development prompts; a mean over fewer says nothing
USUAL = 64  # development prompts, where there are as many
TOO_LONG = "development prompts too long for the model (left out)"


class Sealed(Setting):
    """A setting without benchmarks, without the truth and without the evaluation reward.

    Folders are named by the same hash: what is fitted here serves the runs.
    """

    def __init__(self, whole: Setting) -> None:
        sections = whole.protocol.sections.model_copy(update={"data": {}})
        super().__init__(
            replace(whole.protocol, sections=sections),
            device=whole.device,
            batch_rows=whole.batch_rows,
        )

    @property
    def gold(self) -> Callable[[Chat, str], dict[str, float]] | None:
        """Raise: the truth is for measuring rows."""
        _closed("the truth of a world")

    @property
    def evaluation(self) -> RewardModel | None:
        """Raise: the evaluation reward is for measuring rows."""
        _closed("the evaluation reward")


def _closed(what: str) -> NoReturn:
    raise PlumblineError(f"{what} is not read while settings are tuned: rows are measured by it")


class Development(Benchmark):
    """The development prompts, as a set that nothing scores but the granted reward."""

    title: ClassVar[str] = "development prompts"
    about: ClassVar[str] = "the prompts of the protocol's development pairs"
    scorers: ClassVar[tuple[str, ...]] = ()

    def read(self, items: Iterable[Mapping[str, Json]]) -> Read:
        """Give nothing: the prompts come from pairs."""
        return Read()


def development(setting: Setting, told: Training, count: int | None) -> Questions:
    """Take the first ``count`` different conversations of the development pairs.

    count  None for 64, or as many as there are.

    Raises PlumblineError where there are fewer than asked for, and for fewer than 8.
    """
    how = Sampling(**setting.protocol.draw(None, {}))
    chats = list(dict.fromkeys(pair.prompt for pair in told.dev))
    fit = [chat for chat in chats if setting.room(chat, how)]
    left_out = Counter({TOO_LONG: len(chats) - len(fit)})
    wanted = min(USUAL, len(fit)) if count is None else count
    if not told.dev:
        raise PlumblineError(
            f"protocol {setting.protocol.name} has no development pairs to tune on ([training] dev)"
        )
    if count is not None and count < FEWEST:
        raise PlumblineError(f"PROMPTS is {count}; it must be at least {FEWEST}")
    if len(fit) < max(wanted, FEWEST):
        raise PlumblineError(
            f"the development split of protocol {setting.protocol.name} is too small: it has "
            f"{len(fit)} different prompts that can be asked; "
            + (f"{FEWEST} are needed" if len(fit) < FEWEST else f"PROMPTS asks for {count}")
        )
    prompts = tuple(Prompt(f"dev {i}", chat, cluster=str(i)) for i, chat in enumerate(fit[:wanted]))
    return Questions("dev", Development(), prompts, {p.id: how for p in prompts}, +left_out)
