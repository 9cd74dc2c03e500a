"""Takes calls out of a text as it comes, in the frames that models were trained on.

What turns out to be no call is text again, every character of it, and however the text is cut into
pieces the result is the same. White space beside calls is dropped.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from ..message_parts import MessageDelta, ToolCallDelta
from .call_object import CallObject, new_call_id
from .python_calls import read_python_calls

_SEPARATORS = re.compile(r"[\s,;]*")
_NAME_BEFORE_ARGUMENTS = re.compile(
    r"([a-zA-Z0-9_-]{1,64})(?:\[CALL_ID\][^\[{]*)?\[ARGS\]\s*(?=\{)"
)
_LONGEST_NAME = 200  # with an id and the marks
_FENCE = "```"


@dataclass(frozen=True)
class Frame:
    """Where calls stand: in blocks from `begin` to `end`, anywhere in the text.

    Without `begin` they are the whole text, after `opens_optionally` or a Markdown fence maybe.
    `is_named`: a call may be written as `name[ARGS]{…}`. `is_pythonic`: `[f(a=1), g()]` are calls.
    """

    begin: str = ""
    end: str = ""
    opens_optionally: str = ""
    is_named: bool = False
    is_pythonic: bool = False


class ToolParser:
    """Parses one answer. Gives out at most `max_calls` calls of functions among `names`."""

    def __init__(self, frame: Frame, names: Collection[str], max_calls: int) -> None:
        self._frame = frame
        self._names = names
        self._max_calls = max_calls
        self._end = frame.end
        self._state = self._outside if frame.begin else self._at_start
        self._held = ""  # not decided yet
        self._block = ""  # of the present block, since its beginning or its last call
        self._block_has_call = False
        self._in_list = False
        self._call: CallObject | None = None
        self._space = ""  # at the end of what was said
        self._is_ending = False
        self._content: list[str] = []
        self._calls: dict[int, ToolCallDelta] = {}
        self.num_calls = 0

    def push(self, text: str) -> MessageDelta:
        """Take a piece of the text."""
        self._held += text
        while self._state():
            pass
        return self._take()

    def flush(self) -> MessageDelta:
        """The end of the text: what was held back is no call."""
        self._is_ending = True
        while self._state():
            pass
        if self._call is not None:
            self._give_up(self._call)
        self._end_block()
        self._say(self._held)
        self._held = ""
        if self.num_calls == 0:
            self._content.append(self._space)
            self._space = ""
        return self._take()

    # States. Each takes something from `_held` and says whether another is to go on with it.

    def _at_start(self) -> bool:
        """Before the first character of a text that may be calls as a whole."""
        text = self._held.lstrip()
        if not text:
            return False
        for mark, end in ((self._frame.opens_optionally, ""), (_FENCE + "json", _FENCE)):
            if mark and text.startswith(mark):
                self._end = end
                return self._begin_block(len(self._held) - len(text) + len(mark))
            if mark.startswith(text) and not self._is_ending:
                return False
        if self._frame.is_pythonic and text[0] == "[" and not re.match(r"\[\s*[\[{]", text):
            if not self._is_ending:
                return False  # it can be read only when it is whole
            self._read_python()
        elif text[0] in "{[":
            return self._begin_block(0)
        self._state = self._plain
        return True

    def _outside(self) -> bool:
        """Text, in which a block of calls may begin."""
        begin = self._frame.begin
        at = self._held.find(begin)
        if at >= 0:
            self._say_held(at)
            return self._begin_block(len(begin))
        self._say_held(len(self._held) - overlap(self._held, begin))
        return False

    def _plain(self) -> bool:
        """Text, in which no call can begin any more."""
        self._say_held(len(self._held))
        return False

    def _between(self) -> bool:
        """In a block, where a call or the end may follow."""
        separators = _SEPARATORS.match(self._held)
        assert separators is not None
        self._skim(separators.end())
        text, marks = self._held, [mark for mark in (self._end, self._frame.begin) if mark]
        if not text:
            return False
        for mark in marks:
            if text.startswith(mark):
                self._skim(len(mark))
                return self._end_block() if mark == self._end else True
            if mark.startswith(text) and not self._is_ending:
                return False
        if text[0] == "}" and self._block_has_call:  # one bracket too many
            self._skim(1)
            return True
        if text[0] == "{":
            return self._begin_call(CallObject(self._names))
        if text[0] == "[" and not self._in_list:
            self._in_list = True
            self._skim(1)
            return True
        if text[0] == "]" and self._in_list:
            self._in_list = False
            self._skim(1)
            return True if self._end else self._end_block()
        if self._frame.is_named:
            named = _NAME_BEFORE_ARGUMENTS.match(text)
            if named is not None:
                self._skim(named.end())
                return self._begin_call(CallObject(self._names, named.group(1)))
            if "{" not in text and len(text) < _LONGEST_NAME and not self._is_ending:
                return False
        return self._end_block()

    def _inside(self) -> bool:
        """In a call."""
        call = self._call
        assert call is not None
        if not self._held and not call.is_refused:
            return False
        was_announced = call.has_arguments
        arguments, self._held = call.push(self._held)
        if call.is_refused:
            self._give_up(call)
            return True
        if call.has_arguments and not was_announced:
            assert call.name is not None
            self._announce(call.name)
        if arguments:
            self._add_arguments(arguments)
        if not call.is_complete:
            return False
        self._call = None
        self._state = self._between
        return True

    # Steps from one to the other.

    def _begin_block(self, length: int) -> bool:
        """`_held` begins with so many characters that open a block."""
        self._block, self._block_has_call, self._in_list = "", False, False
        self._skim(length)
        self._state = self._between
        return True

    def _skim(self, length: int) -> None:
        """Pass over characters that are text only if the block turns out to have no call."""
        self._block += self._held[:length]
        self._held = self._held[length:]

    def _begin_call(self, call: CallObject) -> bool:
        self._call = call
        self._state = self._inside
        return True

    def _give_up(self, call: CallObject) -> None:
        """What seemed a call is text, unless its arguments were given out already."""
        self._call = None
        if not call.has_arguments:
            self._block += call.raw
            self._block_has_call = False
        self._end_block()

    def _end_block(self) -> bool:
        if not self._block_has_call:
            self._say(self._block)
        self._block = ""
        self._state = self._outside if self._frame.begin else self._plain
        return True

    def _read_python(self) -> None:
        for name, arguments in read_python_calls(self._held, self._names):
            self._announce(name)
            self._add_arguments(arguments)
            self._held = ""

    # What is given out.

    def _say_held(self, length: int) -> None:
        self._say(self._held[:length])
        self._held = self._held[length:]

    def _say(self, text: str) -> None:
        text = self._space + text
        said = text.rstrip()
        self._content.append(said)
        self._space = text[len(said) :]

    def _announce(self, name: str) -> None:
        index = self.num_calls
        self.num_calls += 1
        self._block, self._block_has_call, self._space = "", True, ""
        if index < self._max_calls:
            self._calls[index] = ToolCallDelta(index, new_call_id(), name)

    def _add_arguments(self, text: str) -> None:
        index = self.num_calls - 1
        if index < self._max_calls:
            known = self._calls.get(index, ToolCallDelta(index))
            arguments = known.arguments + text
            self._calls[index] = ToolCallDelta(index, known.call_id, known.name, arguments)

    def _take(self) -> MessageDelta:
        delta = MessageDelta("", "".join(self._content), tuple(self._calls.values()))
        self._content.clear()
        self._calls.clear()
        return delta


def overlap(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    for length in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0
