"""The enumerable world: eight tokens, so that the best any method can do is known exactly."""

from benchmarks.planted.world import Planted as World

__all__ = ["World"]
