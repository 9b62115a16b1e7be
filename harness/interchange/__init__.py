"""Files of other tools: read as runs of their own, and written from runs."""
