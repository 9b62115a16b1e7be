"""The embedded default world; see ``world.py``."""

from benchmarks.testbed.world import Testbed

World = Testbed

__all__ = ["Testbed", "World"]
