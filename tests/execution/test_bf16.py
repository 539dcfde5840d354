import platform

import pytest
import torch

from raymd.execution.run import cpu_has_bf16


@pytest.mark.parametrize(
    ("machine", "avx512", "amx", "onednn", "has"),
    [
        ("x86_64", False, False, True, False),  # AVX-512 alone: emulated
        ("x86_64", True, False, True, True),
        ("AMD64", False, True, True, True),
        ("aarch64", False, False, True, True),
        ("aarch64", False, False, False, False),
    ],
)
def test_bf16_is_fast_where_the_processor_has_instructions_for_it(
    machine: str, avx512: bool, amx: bool, onednn: bool, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert cpu_has_bf16() is has
