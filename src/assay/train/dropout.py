"""Apply dropout with masks that depend only on seed, sequence position and network place.

No random state has to survive a kill. Micro batches, ranks and threads do not affect the masks. Each bit is a hash of
its own coordinates, as in the counter-based generators of Salmon et al. (2011). The hash is SplitMix64's finalizer
(Steele, Lea and Flood 2014), in the 64-bit integer arithmetic that every device supports.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: the difference between the keys of consecutive sequences."""
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_PLACE = 40
"""Number of bits below a place's number, enough for 10^12 values of a sequence per place."""


class Dropout(NamedTuple):
    """Dropout for the activations of some sequences.

    Attributes:
        rate: probability of dropping a value. The remaining values are scaled to preserve the mean.
        keys: key of each sequence, as returned by `sequence_keys`; int64, (sequences,).
    """

    rate: float
    keys: torch.Tensor

    def __call__(self, values: torch.Tensor, place: int) -> torch.Tensor:
        """Apply dropout to activations.

        Args:
            values: (sequences, length, width).
            place: number of the place in the network. Places have independent masks.
        """
        each = torch.arange(values[0].numel(), device=values.device)
        bits = _mixed(self.keys[:, None] + ((place + 1) << _PLACE) + each)
        # A float64 holds 53 bits exactly, and the threshold is a whole number of these bits.
        keep = _shifted(bits, 11) >= int(self.rate * 2**53)
        return values * keep.view(values.shape) / (1 - self.rate)


def sequence_keys(seed: int, first: int, count: int, device: torch.device) -> torch.Tensor:
    """Return the keys of `count` sequences from position `first` of a run."""
    positions = torch.arange(first, first + count, device=device)
    start = _mixed(torch.tensor(seed, device=device) + _signed(_GOLDEN))
    return _mixed(start + _signed(_GOLDEN) * positions)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _signed(_FIRST)
    bits = (bits ^ _shifted(bits, 27)) * _signed(_SECOND)
    return bits ^ _shifted(bits, 31)


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    """Shift right logically, which torch's signed integers do not support."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >= 1 << 63 else constant
