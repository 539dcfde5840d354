"""Batches on their way from the host's memory to where they are used."""

import torch


def placed(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device; for a GPU from pinned memory, which nobody waits for.

    Out of any other memory the copy would hold up the step that is to run meanwhile.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
