"""Conduct: protocols, plugins, sources, the store and the runner."""
