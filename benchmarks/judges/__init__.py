"""One judge: a template (`.txt`) and a verdict parser (`.py`)."""
