"""One call that a model writes as JSON, its arguments given out while they come."""

import json
import re
import secrets
from collections.abc import Collection

from .json_scanner import JsonScanner

_LONGEST_BEGINNING = 400
# The usual order of members, in which arguments need not wait for the end.
_BEGINNING = re.compile(
    r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)',
    re.DOTALL,
)


class CallObject:
    """`{"name": …, "arguments": {…}}` (or `parameters`), whose first character is the bracket.

    With a `name` given, the text is that of the arguments alone. `raw` is all that was taken. Once
    `is_refused` it is no call of a function among `names`. `has_arguments` says that some were
    given out.
    """

    def __init__(self, names: Collection[str], name: str | None = None) -> None:
        self._names = names
        self._whole = JsonScanner()
        self._arguments = JsonScanner()
        self._scanned = 0 if name is not None else None  # of `raw`, by `_arguments`
        self.raw = ""
        self.name = name
        self.is_refused = name is not None and name not in names
        self.has_arguments = False
        self._is_cut = False

    @property
    def is_complete(self) -> bool:
        """Whether the last bracket is closed, or missing."""
        return self._whole.is_complete or self._is_cut

    def push(self, text: str) -> tuple[str, str]:
        """Take a piece. Returns what it adds to the arguments, and what of it lies behind the end.

        `name` is known when arguments come.
        """
        end = self._whole.push(text)
        self.raw += text[:end]
        if self.name is None and len(self.raw) - end <= _LONGEST_BEGINNING:
            self._find_name()
        arguments = self._next_arguments()
        if self.is_complete and self.name is None and not self.is_refused:
            arguments = self._read_whole()
        self.has_arguments = self.has_arguments or bool(arguments)
        return arguments, self._behind() + text[end:]

    def _behind(self) -> str:
        """What was taken although the call has ended: models forget the last bracket."""
        if self._scanned is None or not self._arguments.is_complete:
            return ""
        behind = self.raw[self._scanned :]
        if behind.lstrip()[:1] in ("", "}", ","):
            return ""
        self.raw = self.raw[: self._scanned]
        self._is_cut = True
        return behind

    def _find_name(self) -> None:
        # A call in another order is read at its end, not sought through at every piece.
        match = _BEGINNING.match(self.raw[:_LONGEST_BEGINNING])
        if match is not None:
            self._take_name(_loads(match.group(1)))
            self._scanned = match.end()

    def _next_arguments(self) -> str:
        if self._scanned is None or self.is_refused or self._arguments.is_complete:
            return ""
        fresh = self.raw[self._scanned :]
        length = self._arguments.push(fresh)
        self._scanned += length
        return fresh[:length]

    def _read_whole(self) -> str:
        """The arguments of a call whose members come in another order, or as text."""
        call = _loads(self.raw)
        if not isinstance(call, dict):
            self.is_refused = True
            return ""
        function = call.get("function")
        if isinstance(function, dict):
            call = function
        self._take_name(call.get("name", function))
        arguments = call.get("arguments", call.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = _loads(arguments)
        if not isinstance(arguments, dict):
            self.is_refused = True
        return "" if self.is_refused else json.dumps(arguments)

    def _take_name(self, name: object) -> None:
        if isinstance(name, str) and name in self._names:
            self.name = name
        else:
            self.is_refused = True


def new_call_id() -> str:
    """An id that no other call has."""
    return f"call_{secrets.token_urlsafe(18)}"


def _loads(text: str) -> object:
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
