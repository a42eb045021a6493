"""Export weights as a model folder that transformers, lm-eval, vLLM and others load."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from transformers.utils.logging import disable_progress_bar

from assay.core.errors import NotFound
from assay.core.files import read_json, replacing, write_json, write_text
from assay.corpus.tokenizer_file import standardize
from assay.train.checkpoint import MODEL, disk_errors, record

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"


def export(model: LlamaForCausalLM, folder: Path, *, tokenizer: Path | None) -> str:
    """Write a Hugging Face model folder: configuration, weights in one safetensors file, tokenizer.

    Args:
        model: the trained proxy, on any device.
        folder: the target folder, which is replaced atomically.
        tokenizer: a folder with `tokenizer.json` and `tokenizer_config.json`, or one of these files; None omits the
            tokenizer.

    Returns:
        SHA-256 of `model.safetensors`.

    Raises:
        AssayError: the disk is full, or the tokenizer does not exist.
    """
    with replacing(folder) as temporary, disk_errors():
        temporary.mkdir()
        if tokenizer is not None:
            _copy_tokenizer(tokenizer, temporary, model)
        disable_progress_bar()  # type: ignore[no-untyped-call]  # a progress bar for one file would clutter the log
        model.save_pretrained(temporary, max_shard_size="1TB")
        return record(temporary / MODEL).sha256


def _copy_tokenizer(tokenizer: Path, folder: Path, model: LlamaForCausalLM) -> None:
    """Copy a tokenizer in transformers' format, and set the end-of-text ID in the model's configuration.

    Without a `tokenizer_config.json`, transformers would treat the tokenizer of a Llama model as Llama's own, and apply
    the rules of that tokenizer. The copy encodes like training, also if an earlier version prepared the tokenizer.
    """
    source = tokenizer if tokenizer.is_dir() else tokenizer.parent
    for name in (TOKENIZER, CONFIG):
        if not (source / name).exists():
            raise NotFound(f"{source}: {name} is missing.", fix="Run `assay prepare` again.")
    config = read_json(source / CONFIG)
    definition, changes = standardize(read_json(source / TOKENIZER), config["eos_token"])
    if changes:
        write_text(folder / TOKENIZER, json.dumps(definition, ensure_ascii=False))
    else:
        shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
    write_json(folder / CONFIG, config | {"model_max_length": model.config.max_position_embeddings})
    end = Tokenizer.from_file(str(source / TOKENIZER)).token_to_id(config["eos_token"])
    model.config.eos_token_id = model.generation_config.eos_token_id = end
