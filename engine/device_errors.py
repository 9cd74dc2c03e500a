"""What an exception of a step says of the memory; torch need not be imported to ask."""

_OF_HOST = "DefaultCPUAllocator: can't allocate memory"  # torch raises it as a RuntimeError


def is_out_of_memory(error: Exception) -> bool:
    """Whether a step found no memory, on the host or on the device."""
    is_by_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_by_type or (isinstance(error, RuntimeError) and _OF_HOST in str(error))
