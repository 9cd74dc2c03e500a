"""The form an answer must have, as requests spell it: OpenAI's and vLLM's several ways."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from ..engine.errors import BadRequestError
from ..engine.structured import GrammarKind, StructuredOutput
from .fields import ListOf, Text

JsonSchema = dict[str, Any] | bool
_NO_SCHEMA = (
    "When response_format type is 'json_schema', the 'json_schema' field must be provided, with a "
    "`schema` in it."
)


class JsonSchemaFormat(BaseModel):
    """OpenAI's wrapping of a schema. The schema is held to whether `strict` is set or not."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, protected_namespaces=())

    name: str | None = None
    description: str | None = None
    schema_: Annotated[JsonSchema | None, Field(alias="schema")] = None
    strict: StrictBool | None = None


class ResponseFormat(BaseModel):
    """OpenAI's `response_format`, with a grammar, and structural tags, as extensions.

    `grammar` is Lark or GBNF; `structures` and `triggers` are those of vLLM's structural tags.
    """

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema", "grammar", "structural_tag"]
    json_schema: JsonSchemaFormat | None = None
    grammar: Text | None = None
    structures: ListOf[dict[str, Any]] | None = None
    triggers: ListOf[Text] | None = None


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`: exactly one member says what is wanted."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    json_: Annotated[JsonSchema | Text | None, Field(alias="json")] = None
    json_object: StrictBool | None = None
    regex: Text | None = None
    choice: ListOf[Text] | None = None
    grammar: Text | None = None
    structural_tag: dict[str, Any] | Text | None = None


class StructuredFields(BaseModel):
    """The members of a body that ask for a form; vLLM's older `guided_…` among them."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonSchema | Text | None = None
    guided_regex: Text | None = None
    guided_choice: ListOf[Text] | None = None
    guided_grammar: Text | None = None

    @property
    def form_field(self) -> str | None:
        """Name of the first member that asks for a form, None if there is none."""
        if self.response_format is not None and self.response_format.type != "text":
            return "response_format"
        names = [name for name in StructuredFields.model_fields if name != "response_format"]
        return next((name for name in names if getattr(self, name) is not None), None)

    def structured_output(self) -> StructuredOutput | None:
        """The form that is asked for. Raises BadRequestError for more than one, or half of one."""
        name = self.form_field
        if name is None:
            return None
        try:
            wanted = [*_from_format(self.response_format), *self._from_extensions()]
        except BadRequestError as error:
            raise BadRequestError(error.message, name) from None
        except RecursionError:
            raise BadRequestError(f"{name}: its JSON is nested too deeply.", name) from None
        if len(wanted) != 1:
            kinds = ", ".join(one.kind for one in wanted) or "none"
            raise BadRequestError(
                "You can only use one kind of structured output, and must use one: got "
                f"{len(wanted)} ({kinds}).",
                name,
            )
        return wanted[0]

    def _from_extensions(self) -> list[StructuredOutput]:
        given = self.structured_outputs or StructuredOutputs()
        wanted = [
            *_of("json_schema", _json_text(given.json_), _json_text(self.guided_json)),
            *_of("regex", given.regex, self.guided_regex),
            *_of("choice", _json_text(given.choice), _json_text(self.guided_choice)),
            *_of("grammar", given.grammar, self.guided_grammar),
            *_of("structural_tag", _json_text(given.structural_tag)),
        ]
        if given.json_object:
            wanted.append(StructuredOutput("json_object"))
        return wanted


def _from_format(given: ResponseFormat | None) -> list[StructuredOutput]:
    if given is None or given.type == "text":
        return []
    if given.type == "json_object":
        return [StructuredOutput("json_object")]
    if given.type == "grammar":
        if given.grammar is None:
            raise BadRequestError(
                "When response_format type is 'grammar', the 'grammar' field must be provided."
            )
        return [StructuredOutput("grammar", given.grammar)]
    if given.type == "structural_tag":
        tag = {"structures": given.structures, "triggers": given.triggers}
        return [StructuredOutput("structural_tag", json.dumps(tag))]
    if given.json_schema is None or given.json_schema.schema_ is None:
        raise BadRequestError(_NO_SCHEMA)
    return [StructuredOutput("json_schema", json.dumps(given.json_schema.schema_))]


def _of(kind: GrammarKind, *sources: str | None) -> list[StructuredOutput]:
    return [StructuredOutput(kind, source) for source in sources if source is not None]


def _json_text(value: object) -> str | None:
    """JSON text of a value; what is text is JSON already."""
    return value if isinstance(value, str) or value is None else json.dumps(value)
