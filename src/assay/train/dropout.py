"""Dropout whose masks are functions of the run's seed, the sequence's position and the place in the network, and of nothing else.

No random state has to be kept over a kill, and neither micro batches, nor ranks, nor threads have a say in what is dropped:
each bit comes from a hash of its own coordinates, a counter-based generator in the sense of Salmon et al. (2011). The hash is
SplitMix64's finaliser (Steele, Lea and Flood 2014), in the arithmetic of 64-bit integers that every device has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: the step between the keys of neighbours."""
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_PLACE = 40
"""Bits below a place's number: enough for 10^12 values of a sequence at each."""


class Dropout(NamedTuple):
    """What is dropped of the activations of some sequences.

    Attributes:
        rate: probability of a value to be dropped; the others are scaled so that the mean stays.
        keys: int64, (sequences,): one for each sequence, from `sequence_keys`.
    """

    rate: float
    keys: torch.Tensor

    def __call__(self, values: torch.Tensor, place: int) -> torch.Tensor:
        """Drop from activations.

        Args:
            values: (sequences, length, width).
            place: number of the place in the network; places drop independently of one another.
        """
        each = torch.arange(values[0].numel(), device=values.device)
        bits = _mixed(self.keys[:, None] + ((place + 1) << _PLACE) + each)
        # 53 bits are what a float64 holds exactly; the threshold is a whole number of them.
        keep = _shifted(bits, 11) >= int(self.rate * 2**53)
        return values * keep.view(values.shape) / (1 - self.rate)


def sequence_keys(seed: int, first: int, count: int, device: torch.device) -> torch.Tensor:
    """The keys of the sequences at so many positions of a run, from the first one on."""
    positions = torch.arange(first, first + count, device=device)
    start = _mixed(torch.tensor(seed, device=device) + _signed(_GOLDEN))
    return _mixed(start + _signed(_GOLDEN) * positions)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _signed(_FIRST)
    bits = (bits ^ _shifted(bits, 27)) * _signed(_SECOND)
    return bits ^ _shifted(bits, 31)


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    """A logical shift to the right, which torch's signed integers do not have."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >= 1 << 63 else constant
