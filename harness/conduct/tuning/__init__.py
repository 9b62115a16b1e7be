"""Tuning: the same number of trials for every method, on development prompts, all counted."""
