"""Finds the end of a JSON object or array in a text that comes in pieces."""


class JsonScanner:
    """Follows brackets and strings; O(1) a character. The text begins with the opening bracket."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self.is_complete = False

    def push(self, text: str) -> int:
        """Take a piece. Returns how many of its characters belong to the value."""
        for position, character in enumerate(text):
            if self.is_complete:
                return position
            if self._in_string:
                self._follow_string(character)
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                self.is_complete = self._depth <= 0
        return len(text)

    def _follow_string(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._in_string = False
