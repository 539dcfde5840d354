import pytest
import torch

from raymd.data.placing import placed
from tests.data.test_loader import loader, toy


def test_copy_to_a_gpu_leaves_from_pinned_memory_and_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        done.append("pin")
        return tensor

    def to(tensor: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        done.append(f"to {device}{' without waiting' if non_blocking else ''}")
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    placed(torch.zeros(2), torch.device("cuda"))
    placed(torch.zeros(2), torch.device("cpu"))
    assert done == ["pin", "to cuda without waiting", "to cpu without waiting"]


def test_batches_lie_on_the_device_but_their_ids_on_the_host() -> None:
    batch = next(loader(toy(20), device="meta").batches(0))
    assert (batch.images.device.type, batch.labels.device.type) == ("meta", "meta")
    assert batch.sample_ids.device.type == "cpu"
