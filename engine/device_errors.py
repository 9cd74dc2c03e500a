"""What an exception of a step says of the device; torch need not be imported to ask."""


def is_final(error: Exception) -> bool:
    """Whether a GPU's context is dead: after an illegal access, say, every further call fails."""
    is_of_device = type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
    return is_of_device and not is_out_of_memory(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a step found no memory, on the host or on the device."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
