"""From an engine's configuration to its core, with the model loaded."""

import time

import msgspec

from .core import EngineCore
from .flight_recorder import FlightRecorder
from .grammars import Grammars
from .plan import EngineConfig
from .translation import Translation


def load_core(
    config: EngineConfig,
    grammars: Grammars | None = None,
    recorder: FlightRecorder | None = None,
) -> tuple[EngineCore, dict[str, float]]:
    """Load the model and reserve the KV memory. Returns the core and seconds by start-up phase.

    Without `grammars` they come to read the model's tokenizer themselves, when they first need it.

    Raises ModelError (bad files), MemoryError or torch's out-of-memory error.
    """
    phases: dict[str, float] = {}
    mark = time.monotonic()

    def lap(name: str) -> None:
        nonlocal mark
        now = time.monotonic()
        phases[name] = round(now - mark, 3)
        mark = now

    import torch

    from ..models.load import RunnerOptions, load_runner

    torch.set_num_threads(config.num_threads)
    lap("import torch")
    options = RunnerOptions(
        dtype=config.dtype,
        kv_dtype=config.kv_dtype,
        keep_packed=config.keep_packed,
        device=config.device,
        block_size=config.block_size,
        num_blocks=config.num_blocks,
        memory_share=config.memory_share,
        max_num_seqs=config.max_num_seqs,
        max_model_len=config.max_model_len,
        max_num_batched_tokens=config.max_num_batched_tokens,
        enforce_eager=config.enforce_eager,
        deterministic=config.deterministic,
    )
    loaded = load_runner(config.model_path, options)
    config = msgspec.structs.replace(config, num_blocks=loaded.num_blocks)
    lap("load model")
    loaded.runner.warm_up()
    lap("warm up")
    grammars = grammars or Grammars.of_model(config.model_path)
    translation = Translation(loaded.vocab_size, config.max_model_len, loaded.identity)
    core = EngineCore(config, loaded.runner, translation, grammars, recorder)
    return core, phases
