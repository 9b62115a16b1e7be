"""What a plugin's file computes, as a digest: an edit changes it, a comment does not."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

from harness.conduct.plugins import package_folder

OWN = ("methods", "benchmarks.judges")  # packages whose files may lean on one another


def code_digest(file: Path | None) -> str:
    """Digest what a plugin file computes: its syntax tree without docstrings.

    The plugin's own helpers (``methods._x``) count too.  Part of a run's key, so
    that an edited method is run again and a corrected comment is not.
    """
    if file is None:
        return ""
    digest = hashlib.blake2b(digest_size=5)
    for text in _closure(file):
        digest.update(text.encode())
    return digest.hexdigest()


def _closure(file: Path) -> list[str]:
    seen: dict[Path, str] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OWN):
                names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
                waiting += [
                    package_folder("methods").parent / (n.replace(".", "/") + ".py") for n in names
                ]
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]):
                body[0] = ast.Pass()
        seen[path] = ast.dump(tree)
    return [seen[path] for path in sorted(seen)]


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
