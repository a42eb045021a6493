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
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>")
"""What tokenizers call the end of a text, where no configuration says it."""


def export(model: LlamaForCausalLM, folder: Path, *, tokenizer: Path | None) -> str:
    """Write a Hugging Face model folder: configuration, weights in one safetensors file, tokenizer.

    Args:
        model: the trained proxy, on any device.
        folder: where; replaced as a whole.
        tokenizer: a `tokenizer.json`, or a folder with one; `None` writes none.

    Returns:
        SHA-256 of `model.safetensors`.

    Raises:
        AssayError: the disk is full; or there is no `tokenizer.json`.
    """
    with replacing(folder) as temporary, disk_errors():
        temporary.mkdir()
        if tokenizer is not None:
            _copy_tokenizer(tokenizer, temporary, model)
        disable_progress_bar()  # a bar for one file, in the middle of a log
        model.save_pretrained(temporary, max_shard_size="1TB")
        return record(temporary / MODEL).sha256


def _copy_tokenizer(tokenizer: Path, folder: Path, model: LlamaForCausalLM) -> None:
    """Copy a tokenizer, with a `tokenizer_config.json` that says how to load it and which token ends a text.

    Without one transformers would take a Llama model's tokenizer for Llama's own, and add that one's rules.
    """
    source = tokenizer if tokenizer.is_dir() else tokenizer.parent
    if not (source / TOKENIZER).exists():
        raise AssayError(f"{source}: no {TOKENIZER} there.", fix="Prepare the sweep's corpora again.")
    shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
    given = read_json(source / CONFIG) if (source / CONFIG).exists() else {}
    vocabulary = Tokenizer.from_file(str(source / TOKENIZER))
    end = given.get("eos_token") or next((name for name in ENDS if vocabulary.token_to_id(name) is not None), None)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **given,
        "eos_token": end,
        "model_max_length": model.config.max_position_embeddings,
    }
    write_json(folder / CONFIG, {key: value for key, value in config.items() if value is not None})
    ends = None if end is None else vocabulary.token_to_id(end)
    for settings in (model.config, model.generation_config):
        settings.eos_token_id = ends
