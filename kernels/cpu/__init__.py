"""The native path of a CPU: C with OpenMP, called through pointers (docs/cpu-kernels.md).

What must never come in: models and requests. `native/` holds the C sources; `library` opens what
the package build made of them, or says that there is none.
"""
