"""The schemas of these tests: a choice from the JSON-Schema-Test-Suite, and our own."""

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from .made_schemas import made_schemas

HERE = Path(__file__).parent


@dataclass(frozen=True)
class NamedSchema:
    """A schema; level 1 is plain, 5 hostile."""

    name: str
    level: int
    schema: dict[str, Any] | bool

    @property
    def text(self) -> str:
        """As a request carries it."""
        return json.dumps(self.schema)

    def complaint(self, answer: str) -> str | None:
        """What is wrong with an answer, None if it is JSON that validates, formats included."""
        # With binary fractions 1.15 would be no multiple of 0.01.
        schema = json.loads(self.text, parse_float=Decimal)
        validator: type[Validator] = validator_for(schema, default=Draft202012Validator)
        checker = Draft202012Validator.FORMAT_CHECKER
        try:
            value = json.loads(answer, parse_float=Decimal)
            validator(schema, format_checker=checker).validate(value)
        except (ValueError, ValidationError) as error:
            return f"{self.name}: {answer!r}: {str(error)[:300]}"
        return None


def all_schemas() -> list[NamedSchema]:
    """Every schema, plain ones first."""
    schemas = [NamedSchema(*made) for made in made_schemas()]
    for name in ("suite_schemas.json", "real_life_schemas.json"):
        entries = json.loads((HERE / name).read_text())["schemas"]
        schemas.extend(NamedSchema(**entry) for entry in entries)
    return sorted(schemas, key=lambda one: one.level)
