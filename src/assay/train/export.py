"""The final weights as a folder that transformers, lm-eval, vLLM and others load."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from transformers.utils.logging import disable_progress_bar

from assay.errors import AssayError
from assay.files import read_json, replacing, write_json
from assay.train.checkpoint import MODEL, disk_errors, record

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"


def export(model: LlamaForCausalLM, folder: Path, *, tokenizer: Path | None) -> str:
    """Write a Hugging Face model folder: configuration, weights in one safetensors file, tokenizer.

    Args:
        model: the trained proxy, on any device.
        folder: where; replaced as a whole.
        tokenizer: a folder with `tokenizer.json` and `tokenizer_config.json`, or one of the two; `None` writes none.

    Returns:
        SHA-256 of `model.safetensors`.

    Raises:
        AssayError: the disk is full; or there is no such tokenizer.
    """
    with replacing(folder) as temporary, disk_errors():
        temporary.mkdir()
        if tokenizer is not None:
            _copy_tokenizer(tokenizer, temporary, model)
        disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar for one file, in the middle of a log
        model.save_pretrained(temporary, max_shard_size="1TB")
        return record(temporary / MODEL).sha256


def _copy_tokenizer(tokenizer: Path, folder: Path, model: LlamaForCausalLM) -> None:
    """Copy a tokenizer as transformers loads it, and tell the model which id ends a text.

    Without a `tokenizer_config.json` transformers would take a Llama model's tokenizer for Llama's own, and add that
    one's rules.
    """
    source = tokenizer if tokenizer.is_dir() else tokenizer.parent
    for name in (TOKENIZER, CONFIG):
        if not (source / name).exists():
            raise AssayError(f"{source}: no {name} there.", fix="Prepare the sweep's corpora again.")
    shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
    config = read_json(source / CONFIG)
    write_json(folder / CONFIG, config | {"model_max_length": model.config.max_position_embeddings})
    end = Tokenizer.from_file(str(source / TOKENIZER)).token_to_id(config["eos_token"])
    model.config.eos_token_id = model.generation_config.eos_token_id = end
