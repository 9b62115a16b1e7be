"""Where the traceback of a fault nobody foresaw is kept."""

from __future__ import annotations

import os
import sys
import traceback
from datetime import datetime
from pathlib import Path
from tempfile import gettempdir

from harness.conduct.store import StoreError, write_text

DEBUG = "PLUMBLINE_DEBUG"  # set it to see tracebacks at once


def write_log(results: Path, error: BaseException) -> Path:
    """Keep a traceback under the results folder, or wherever a file can be; give its path."""
    text = "".join(traceback.format_exception(error))
    if os.environ.get(DEBUG):
        print(text, file=sys.stderr)
    name = f"plumbline-{datetime.now():%Y%m%d-%H%M%S-%f}.log"
    for folder in (results / "logs", Path(gettempdir())):
        try:
            write_text(folder / name, text)
        except StoreError:
            continue
        return folder / name
    return Path("no file: neither the results folder nor the temporary one can be written")
