"""What is told of the model that is served."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelInfo:
    """What clients may know of the served model."""

    served_names: tuple[str, ...]  # the first labels the metrics
    path: str
    max_model_len: int
    vocab_size: int
    created: int  # Unix seconds
