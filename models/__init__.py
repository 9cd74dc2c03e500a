"""Models: their configuration, weights, tokenizer files, the decoder, the runner and the sampler.

What must never come in: scheduling, text assembly, HTTP. This file imports nothing, since half of
the room (`config`, `resolve`, `gguf_file`, `tokenizer_files`) works without torch; import modules.
"""
