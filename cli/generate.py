"""`octavo generate`: one prompt, answered in the terminal by an engine in this process."""

import logging
import sys

from ..engine.chat_template import ChatTemplate
from ..engine.llm import LLM
from ..engine.logs import configure_logging
from ..engine.sampling_params import SamplingParams
from ..engine.settings import Settings


def stream_answer(
    settings: Settings,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float,
    seed: int | None,
    raw: bool,
) -> None:
    """Write the answer to standard output as it is made. Raises OctavoError or ModelError."""
    configure_logging(settings.log_level, settings.log_format)
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLogger().level))
    overrides = settings.model_dump(exclude_unset=True)
    llm = LLM(**overrides)
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    template = None if raw else ChatTemplate.for_tokenizer(llm.tokenizer)
    if template is None:
        token_ids = llm.tokenizer.encode(prompt, add_special_tokens=True)
    else:
        text = template.render([{"role": "user", "content": prompt}])
        token_ids = llm.tokenizer.encode(text, add_special_tokens=False)
    for output in llm.stream(token_ids, params):
        sys.stdout.write(output.text)
        sys.stdout.flush()
    sys.stdout.write("\n")
