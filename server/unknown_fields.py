"""A line in the log for the first request with a field that nothing here knows."""

import logging

from pydantic import BaseModel

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 256
# Members of OpenAI's bodies that say nothing about the text.
_HARMLESS = frozenset(
    {
        *("store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("prompt_cache_retention", "prediction", "modalities", "verbosity", "web_search_options"),
        *("spaces_between_special_tokens", "stream_interval"),
    }
)


class UnknownFields:
    """Remembers which fields were logged; what it remembers is bounded."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def note(self, endpoint: str, body: BaseModel) -> None:
        """Log the body's unknown fields, each once."""
        for name in body.model_extra or {}:
            key = (endpoint, name[:64])
            if name in _HARMLESS or key in self._seen or len(self._seen) >= MAX_REMEMBERED:
                continue
            self._seen.add(key)
            logger.info("%s: ignored the unknown field %r (logged once)", *key)
