"""Benchmarks, worlds, judges, metrics and protocols."""
