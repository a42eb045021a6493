"""Misbehaving detectors of a project."""

from __future__ import annotations

import itertools
import os
import re
from collections import deque


def raises(text: str) -> list[tuple[int, int]]:
    if "second" in text:
        raise ValueError("not today")
    return []


def never_ends(text: str) -> list[tuple[int, int]]:
    if "second" in text:
        re.match(r"(a+)+$", "a" * 60 + "b")
    return []


def never_comes_back(text: str) -> list[tuple[int, int]]:
    if "second" in text:
        deque(itertools.repeat(None), maxlen=0)  # a loop in C, which no signal handler interrupts
    return []


def dies(text: str) -> list[tuple[int, int]]:
    if "second" in text:
        os._exit(9)
    return []


def capitals(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"[A-Z]{20,}", text)]


def raises_with_text(text: str) -> list[tuple[int, int]]:
    raise ValueError(f"cannot take {text}")
