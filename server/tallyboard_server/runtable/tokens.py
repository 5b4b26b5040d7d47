"""The first look at a filter, sort or list of columns: its words, signs and texts, and where each stands."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from tallyboard_server.runtable.columns import BARE

_SPACE: Final = re.compile(r"\s*")
_SIGN: Final = re.compile(r"<=|>=|==|!=|<>|!~|[<>=~(),]")
_SAME_AS: Final = {"==": "=", "<>": "!="}

Kind = Literal["word", "text", "sign", "end"]


class ExpressionError(ValueError):
    """A filter, sort or list of columns that can't be read. position: of the character, from 1."""

    def __init__(self, position: int, detail: str) -> None:
        super().__init__(f"at character {position}: {detail}")
        self.position = position
        self.detail = detail


@dataclass(slots=True, frozen=True)
class Token:
    """A piece of the source from `start` to `end` (characters, from 0).

    word: a name or number, split into `parts` at its dots, but for those in quotes. text: something that is quoted
    as a whole, its content the only part. sign: an operator, parenthesis or comma. end: behind the last of them.
    """

    kind: Kind
    parts: tuple[str, ...]
    start: int
    end: int

    @property
    def content(self) -> str:
        """What it says, without quotes."""
        return ".".join(self.parts)

    def is_sign(self, *signs: str) -> bool:
        """Whether it is one of these signs."""
        return self.kind == "sign" and self.parts[0] in signs

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, in any case."""
        return self.kind == "word" and self.content.casefold() in words


def tokens(source: str) -> list[Token]:
    """All tokens of a source, an end last. Raises ExpressionError."""
    found = []
    at = _behind_space(source, 0)
    while at < len(source):
        token = _token(source, at)
        found.append(token)
        at = _behind_space(source, token.end)
    found.append(Token("end", ("",), len(source), len(source)))
    return found


def _behind_space(source: str, at: int) -> int:
    space = _SPACE.match(source, at)
    return at if space is None else space.end()


def _token(source: str, at: int) -> Token:
    if sign := _SIGN.match(source, at):
        return Token("sign", (_SAME_AS.get(sign.group(), sign.group()),), at, sign.end())
    return _word(source, at)


def _word(source: str, start: int) -> Token:
    """A word: bare pieces and quoted ones in a row, as in last."my tag"."""
    parts = [""]
    at, pieces, quotes = start, 0, 0
    while at < len(source):
        if source[at] in "\"'":
            text, at = _quoted(source, at)
            parts[-1] += text
            quotes += 1
        elif bare := BARE.match(source, at):
            first, *rest = bare.group().split(".")
            parts[-1] += first
            parts += rest
            at = bare.end()
        else:
            break
        pieces += 1
    if not pieces:
        raise ExpressionError(start + 1, f"{source[start]!r} means nothing here; write != for 'is not'")
    return Token("text" if pieces == quotes == 1 else "word", tuple(parts), start, at)


def _quoted(source: str, start: int) -> tuple[str, int]:
    """What stands between quotes (a backslash takes the next character as it is), and where it ends."""
    mark, found, at = source[start], [], start + 1
    while at < len(source) and source[at] != mark:
        if source[at] == "\\":
            at += 1
        found.append(source[at : at + 1])
        at += 1
    if at >= len(source):
        raise ExpressionError(start + 1, f"a quote that is never closed; end it with {mark}")
    return "".join(found), at + 1
