"""The memory that a model is computed in, and how its end is recognised."""

_SAID = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the GPU or of the machine is used up."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


def memory_in_words() -> str:
    """The memory that models are computed in, as in `the 15.6 GiB of the GPU (Tesla T4)`."""
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(torch.cuda.current_device())
        return f"the {device.total_memory / 2**30:.1f} GiB of the GPU ({device.name})"
    import psutil

    return f"this machine has ({psutil.virtual_memory().total / 2**30:.1f} GiB)"
