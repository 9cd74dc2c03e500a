"""The front door: the HTTP API, its request and response models, chat templates and metrics.

What must never come in: torch, scheduling, blocks; anything below the engine's public modules.
"""
