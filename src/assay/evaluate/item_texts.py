"""Load the texts of the suite's items and the held-out documents, with their `doc_hash`."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.config.suite import VALIDATION
from assay.evaluate.heldout import LEAST_BYTES, open_documents

if TYPE_CHECKING:
    from assay.config.suite import SuiteTask

_FRAME = re.compile(r"\b(?:Question|Answer)\s*:")
"""Labels that prompts add to all items."""
TOKENS = 3000
"""Number of tokens from the beginning of a held-out document."""


class ItemTexts(NamedTuple):
    """The text of an item.

    Attributes:
        task: lm-eval's leaf task, or `validation/<source>`.
        key: the `doc_hash` in `items.parquet`.
        text: the prompt with its choices, or the beginning of the document.
    """

    task: str
    key: str
    text: str


def load_item_texts(
    tasks: Sequence[SuiteTask], *, progress: Callable[[float], None], include_path: Path | None = None
) -> list[ItemTexts]:
    """Load the texts of the items that runs are scored on.

    The texts include the few items that exceed a model's context. To read a mirror, first call
    `assay.evaluate.offline.use_mirror`.

    Args:
        tasks: tasks of the suite.
        progress: called with the completed fraction.
        include_path: folder of the project's own task definitions.

    Raises:
        AssayError: a task is unknown, or its items cannot be read.
    """
    from assay.evaluate.tasks import load_task, make_task_manager, seed_everything, spread

    manager = make_task_manager(tasks, include_path)
    texts = []
    for number, task in enumerate(tasks):
        progress(number / len(tasks))
        seed_everything()
        for name, leaf in load_task(manager, task, include_path)["tasks"].items():
            docs = leaf.eval_docs
            sample = spread(len(docs), task.limit)
            chosen = (docs[index] for index in (range(len(docs)) if sample is None else sample))
            texts += [ItemTexts(name, doc_hash(doc), _text(leaf, doc)) for doc in chosen]
    progress(1.0)
    return texts


def doc_hash(doc: Any) -> str:
    """Return the hash that lm-eval logs for an item."""
    from lm_eval.utils import handle_non_serializable, hash_string

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    hashed: str = hash_string(text)
    return hashed


def _text(leaf: Any, doc: Any) -> str:
    prompt = leaf.doc_to_text(doc)
    choices = leaf.doc_to_choice(doc) if leaf.get_config("doc_to_choice") is not None else []
    # With several inputs (winogrande), the prompts are the choices, and `doc_to_text` is an index.
    parts = [prompt if isinstance(prompt, str) else "", *(str(choice) for choice in choices)]
    return _FRAME.sub(" ", " ".join(parts)).strip()


def read_held_out_texts(corpora: Mapping[str, Path], tokenizer: Path, *, limit: int) -> Iterator[ItemTexts]:
    """Yield the beginnings of the held-out documents that runs are scored on.

    Args:
        corpora: folder of each source's corpus.
        tokenizer: folder of the corpora's tokenizer.
        limit: the suite's `validation_bytes`.
    """
    from assay.corpus.encoder import TextEncoder

    encoder = TextEncoder.open(tokenizer)
    for source, path in sorted(corpora.items()):
        for key, tokens, _ in itertools.islice(open_documents(path), max(1, limit // LEAST_BYTES)):
            ids = [int(token) for token in tokens[:TOKENS] if token != encoder.end]
            yield ItemTexts(VALIDATION + source, key, encoder.decode(ids))
