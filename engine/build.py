"""From settings to the parts of a running engine: files, plan, tokenizer. Imports no torch."""

import time
from dataclasses import dataclass

from ..models.config import ModelConfig, load_config
from ..models.native_support import packed_size
from ..models.resolve import ModelFiles, resolve_model
from ..models.tokenizer_files import load_tokenizer_files
from .errors import ConfigurationError
from .model_info import ModelInfo
from .plan import EngineConfig, MemoryPlan, make_plan
from .settings import Settings
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class PlannedModel:
    """A model found on disk, its configuration, and the memory plan for it; no weights yet."""

    files: ModelFiles
    model: ModelConfig
    config: EngineConfig
    plan: MemoryPlan


def plan_model(settings: Settings) -> PlannedModel:
    """Find the model (fetching it if need be) and plan its memory.

    Raises ModelError (not found, bad files, unsupported) or ConfigurationError (does not fit).
    """
    files = resolve_model(settings.model, settings.cache_dir, revision=settings.revision)
    model = load_config(files)
    file_bytes = sum(file.stat().st_size for file in files.weight_files)
    packed = packed_size(files, model)
    config, plan = make_plan(settings, model, str(files.path), file_bytes, packed)
    return PlannedModel(files, model, config, plan)


def load_tokenizer(planned: PlannedModel, settings: Settings) -> Tokenizer:
    """The model's tokenizer, with the chat template that the settings name, if they do."""
    template = None
    if settings.chat_template is not None:
        try:
            template = settings.chat_template.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--chat-template {settings.chat_template}: {error}") from None
    return Tokenizer(load_tokenizer_files(planned.files), chat_template=template)


def describe_model(planned: PlannedModel, settings: Settings) -> ModelInfo:
    """What clients are told of the model."""
    return ModelInfo(
        served_names=tuple(settings.served_model_name) or (planned.files.name,),
        path=str(planned.files.path),
        max_model_len=planned.config.max_model_len,
        vocab_size=planned.model.vocab_size,
        created=int(time.time()),
    )
