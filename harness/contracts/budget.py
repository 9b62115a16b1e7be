"""What choosing a method's settings may spend: evaluations are counted, one too many raises."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import PlumblineError


class BudgetSpent(PlumblineError):
    """More evaluations were asked for than were allowed."""


class Budget:
    """Evaluations: answers to the development prompts, all of them once, under one setting.

    allowed  how many may be made; None for any number.
    spent    how many were made.
    """

    def __init__(self, allowed: int | None = None, spent: int = 0) -> None:
        self.allowed = allowed
        self.spent = spent

    @property
    def left(self) -> int | None:
        """Give how many more may be made; None for any number."""
        return None if self.allowed is None else self.allowed - self.spent

    def spend(self, what: str) -> None:
        """Count one, before it is made; raises BudgetSpent where none is left.

        what  who evaluates, for the message.
        """
        if self.left is not None and self.left < 1:
            raise BudgetSpent(
                f"{what}: no evaluation on development prompts is left; "
                f"{self.allowed} were allowed and {self.spent} made"
            )
        self.spent += 1


@dataclass(frozen=True)
class Chosen:
    """How a row's fields were chosen: by so many trials, each one evaluation, on an objective."""

    trials: int
    objective: str

    @property
    def words(self) -> str:
        """Say it as a row's label does."""
        more = "" if self.objective == "reward" else f", {self.objective}"
        return f"tuned, {self.trials} trial{'s' * (self.trials != 1)}{more}"
