"""Triton kernels for NVIDIA GPUs, each beside a launch wrapper; imported only where Triton is.

One file is one kernel family. Its reference in plain torch is the file of the same operation in
`kernels/`. What must never come in: models, requests, or a choice that depends on them.
"""
