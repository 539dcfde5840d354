"""Random draws as hashes of a position: no generator, so nothing to save and nothing to replay.

Place on the data's way: beside it. The loader asks for each sample's hash at (seed, stream, epoch
or view, sample id); crops, flips and RandAugment read their numbers from it.

    B batch
"""

import torch
import xxhash

MASK_63 = (1 << 63) - 1
FIELD_BITS = 20
FIELD = (1 << FIELD_BITS) - 1
_MASK_64 = (1 << 64) - 1


def stream_of(text: str) -> int:
    """A 63-bit number for a name, such as a student's id; the same in every process."""
    return xxhash.xxh3_64_intdigest(text.encode()) & MASK_63


def position_key(purpose: str, *, seed: int, stream: int, epoch: int) -> int:
    """A 63-bit number for a position, unlike that of any other purpose at the same position."""
    return stream_of(f"{purpose}/{seed}/{stream}/{epoch}")


def sample_hash(ids_B: torch.Tensor, *, seed: int, stream: int, epoch: int) -> torch.Tensor:
    """A hash for each sample at one position: splitmix64 of id and position.

    Args:
        ids_B: int64 [B], on any device.
        seed: The run's.
        stream: Who draws, from ``stream_of``.
        epoch: Number of the epoch or of the view.

    Returns:
        int64 [B], uniform on 0..2**63-1.
    """
    key = position_key("sample", seed=seed, stream=stream, epoch=epoch)
    return _mix(ids_B * _signed(0x9E3779B97F4A7C15) + key)


def rehash(hash_B: torch.Tensor, number: int | torch.Tensor) -> torch.Tensor:
    """Another hash for the same samples: of their hash and a number, which is broadcast."""
    numbers = torch.as_tensor(number, device=hash_B.device)
    return _mix(hash_B + numbers * _signed(0x9E3779B97F4A7C15))


def field(hash_B: torch.Tensor, index: int) -> torch.Tensor:
    """Field 0, 1 or 2 of a hash: int64, uniform on 0..2**20-1, independent of the others."""
    return (hash_B >> (index * FIELD_BITS)) & FIELD


def fraction(hash_B: torch.Tensor, index: int) -> torch.Tensor:
    """Field 0, 1 or 2 of a hash as float64, uniform on 0 <= fraction < 1."""
    return field(hash_B, index).double() / (1 << FIELD_BITS)


def _mix(mixed_B: torch.Tensor) -> torch.Tensor:
    # int64 wraps, as the hash wants
    mixed_B = (mixed_B ^ _shift_right(mixed_B, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed_B = (mixed_B ^ _shift_right(mixed_B, 27)) * _signed(0x94D049BB133111EB)
    return (mixed_B ^ _shift_right(mixed_B, 31)) & MASK_63


def _shift_right(values: torch.Tensor, bits: int) -> torch.Tensor:
    # torch shifts arithmetically, so the copies of the sign bit are masked away
    return (values >> bits) & (_MASK_64 >> bits)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
