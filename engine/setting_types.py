"""How settings are written: sizes with units, lists with commas, objects as JSON."""

import json
import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*$", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_bytes(value: object) -> object:
    """Turn "2GiB", "500MB" or "1048576" into bytes; "GiB" is 1024-based, "GB" is 1000-based."""
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value)
    if match is None:
        raise ValueError(f"{value!r} is not a size; write bytes, or a number with a unit like 2GiB")
    number, unit, binary = match.groups()
    base = 1024 if binary or not unit else 1000
    return int(float(number) * base ** _POWERS[unit.lower()])


ByteSize = Annotated[int, BeforeValidator(parse_bytes)]


def split_commas(value: object) -> object:
    """Turn "a, b", or a flag given several times, into a list without blanks."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def parse_json(value: object) -> object:
    """Turn JSON text into what it says."""
    return json.loads(value) if isinstance(value, str) else value


JsonObject = Annotated[dict[str, Any] | None, NoDecode, BeforeValidator(parse_json)]
# NoDecode: the environment gives a plain comma-separated string, not JSON.
Names = Annotated[list[str], NoDecode, BeforeValidator(split_commas)]
