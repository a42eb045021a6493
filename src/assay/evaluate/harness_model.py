"""lm-eval's model of a proxy, which encodes text as training does."""

# ruff: noqa: FBT001, FBT002  # the signatures are lm-eval's

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from assay.core.errors import Refused
from assay.corpus.encoder import TextEncoder

SHOWN = 60
"""Maximum number of characters of an answer, and of a prompt's end, that an error shows."""


class HarnessModel(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """An `HFLM` whose prompts, answers and texts have the encoding of the corpora.

    The encoding equals that of `HFLM` if the tokenizer has no template and no token spans the end of a prompt.
    """

    def __init__(self, folder: Path, *, batch_size: int, device: str) -> None:
        """Load a run's model folder; see `evaluation.load_model`."""
        super().__init__(pretrained=str(folder), device=device, batch_size=batch_size)
        self.encoder = TextEncoder.open(folder)
        self.encoded_apart = 0

    @property
    def prefix_token_id(self) -> int:
        """The end-of-text token, which precedes every document in training."""
        return self.encoder.end

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return self.encoder.end

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: Any
    ) -> list[int]:
        """Encode a text without special tokens, for any arguments, because training adds none."""
        del add_special_tokens
        ids = self.encoder.encode(string)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode and pad the prompts of a batch for generation. Prompts that are too long lose their beginning."""
        del truncation
        rows = [self.tok_encode(string, left_truncate_len=left_truncate_len) for string in strings]
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), self.encoder.end)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            place = slice(length - len(row), length) if padding_side == "left" else slice(len(row))
            ids[number, place] = torch.tensor(row, dtype=ids.dtype)
            mask[number, place] = 1
        return ids, mask

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score answers to prompts; see `HFLM.loglikelihood`.

        Raises:
            Refused: an answer has no tokens.
        """
        for context, continuation in (request.args for request in requests):
            if not context and not self.tok_encode(continuation):
                raise _no_tokens(context, continuation)
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scores

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Encode a prompt and its answer.

        As in lm-eval, spaces at the prompt's end become part of the answer. Prompt and answer are encoded together, as
        in training, and the answer has the tokens after the prompt's tokens. If a token spans both texts, lm-eval would
        score another text, or fail on an empty answer. The two texts are then encoded separately, and `encoded_apart`
        counts the pair.

        Raises:
            Refused: the answer or the prompt has no tokens.
        """
        prompt = context.rstrip()
        answer = context[len(prompt) :] + continuation
        whole, given = self.tok_encode(prompt + answer), self.tok_encode(prompt)
        if given and whole[: len(given)] == given and len(whole) > len(given):
            return given, whole[len(given) :]
        self.encoded_apart += 1
        rest = self.encoder.encode_continuation(answer) if given else self.tok_encode(answer)
        if not rest:
            raise _no_tokens(context, continuation)
        return given or [self.prefix_token_id], rest


def _no_tokens(context: str, continuation: str) -> Refused:
    return Refused(
        f"the answer {continuation[:SHOWN]!r} to the prompt {context[-SHOWN:]!r} has no tokens, so it has no loglikelihood.",
        fix="Correct the task's answers, or remove the task from the suite.",
    )
