"""Forecasts: what a command would run, how long it would take, and what is stored already."""
