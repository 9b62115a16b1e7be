"""One stopping rule for all: end tokens, stop strings, budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class StopStrings:
    """Finds the stop strings as they are completed, looking only where one can be.

    A string is completed by a token only if some head of the token's text is a
    tail of the string, or the string lies inside it.  That is a property of the
    vocabulary, computed once; text is decoded only for rows whose last token
    has it.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str], vocabulary: int) -> None:
        self.tokenizer = tokenizer
        self.strings = tuple(s for s in strings if s)
        # A character may take four tokens, one for each of its bytes.
        self.reach = 4 * max((len(s) for s in self.strings), default=0) + 8
        can_end = [False] * vocabulary
        if self.strings:
            for token, piece in enumerate(_pieces(tokenizer, vocabulary)):
                can_end[token] = any(_completes(piece, s) for s in self.strings)
        self.can_end = torch.tensor(can_end)

    def hit(self, ids: Tensor, drawn: int | Tensor) -> Tensor:
        """Say which rows completed a stop string with their last token.

        ids [rows, >= drawn]; drawn: tokens of the rows, or of each row.
        """
        out = torch.zeros(ids.shape[0], dtype=torch.bool)
        if not self.strings:
            return out
        at = torch.as_tensor(drawn, device=ids.device).expand(len(ids))
        last = ids.gather(1, at[:, None] - 1).flatten().cpu()
        for row in self.can_end[last].nonzero().flatten().tolist():
            # A stop string may itself be a special token, which a text would not show.
            end = int(at[row])
            tail = self.tokenizer.decode(ids[row, max(0, end - self.reach) : end].tolist())
            out[row] = any(s in tail for s in self.strings)
        return out

    def cut(self, text: str) -> str:
        """Cut a text at the first stop string."""
        found = [at for at in map(text.find, self.strings) if at >= 0]
        return text[: min(found)] if found else text


def _pieces(tokenizer: Any, vocabulary: int) -> list[str]:
    known = min(vocabulary, len(tokenizer))
    anchor = tokenizer.encode("a", add_special_tokens=False)[-1:]
    # Decoded after an anchor, a piece keeps the space that a leading one would lose.
    head = len(tokenizer.decode(anchor))
    pieces = tokenizer.batch_decode([[*anchor, i] for i in range(known)])
    return [p[head:] for p in pieces] + [""] * (vocabulary - known)


def _completes(piece: str, string: str) -> bool:
    if string in piece or not piece:
        return bool(piece)
    if "\ufffd" in piece and not string.isascii():
        return True  # part of a character's bytes: which character, only the text can tell
    return any(piece[:k] == string[-k:] for k in range(1, min(len(piece), len(string)) + 1))


def ended(tokens: Tensor, ends: Tensor) -> Tensor:
    """Say which rows drew an end token.  tokens [rows], ends [number of end ids]."""
    return torch.isin(tokens, ends)


_TABLES: dict[tuple[int, int, tuple[str, ...]], StopStrings] = {}


def stop_strings(tokenizer: Any, strings: tuple[str, ...], vocabulary: int) -> StopStrings:
    """Give the stop strings' table for a vocabulary, made once."""
    key = (id(tokenizer), vocabulary, strings)
    if key not in _TABLES:
        _TABLES[key] = StopStrings(tokenizer, strings, vocabulary)
    return _TABLES[key]
