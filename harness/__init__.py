"""Plumbline: test-time alignment methods held against each other on equal terms."""

__version__ = "0.1.0"
