"""Contracts: what a method, a benchmark, a scorer, a backend and a world must offer."""
