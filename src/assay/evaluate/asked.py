"""The texts behind the items of an evaluation: the suite's questions, and the held-out documents, under the hashes that items have."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.evaluate.validation import LEAST_BYTES, open_documents
from assay.suite import VALIDATION

if TYPE_CHECKING:
    from assay.suite import Task

_FRAME = re.compile(r"\b(?:Question|Answer)\s*:")
"""What prompts put around every question, and which says nothing of any."""
TOKENS = 3000
"""Of a held-out document, from its beginning."""


class Asked(NamedTuple):
    """What a model is scored on.

    Attributes:
        task: lm-eval's leaf task, or `validation/<source>`.
        key: the `doc_hash` in `items.parquet`.
        text: the question with its choices, or the document's beginning.
    """

    task: str
    key: str
    text: str


def questions(tasks: Sequence[Task], *, tell: Callable[[float], None]) -> list[Asked]:
    """The questions that runs are asked; a few that did not fit a model's context are among them.

    Where a mirror is to be used, `assay.evaluate.offline.use_mirror` comes first.

    Args:
        tasks: as the suite has them.
        tell: told the share that is done.

    Raises:
        AssayError: lm-eval does not know a task, or its questions cannot be had.
    """
    from lm_eval.tasks import TaskManager

    from assay.evaluate.harness import known
    from assay.evaluate.questions import load_task, seed_everything, spread

    names = [task.task for task in tasks]
    manager = TaskManager(include_defaults=False, include_path=[str(folder) for folder in known(names).folders(names)])
    found = []
    for place, task in enumerate(tasks):
        tell(place / len(tasks))
        seed_everything()
        for name, leaf in load_task(manager, task)["tasks"].items():
            docs = leaf.eval_docs
            sample = spread(len(docs), task.limit)
            chosen = (docs[index] for index in (range(len(docs)) if sample is None else sample))
            found += [Asked(name, doc_hash(doc), _text(leaf, doc)) for doc in chosen]
    tell(1.0)
    return found


def doc_hash(doc: Any) -> str:
    """The hash that lm-eval gives to a question in its log."""
    from lm_eval.utils import handle_non_serializable, hash_string

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    hashed: str = hash_string(text)
    return hashed


def _text(leaf: Any, doc: Any) -> str:
    prompt = leaf.doc_to_text(doc)
    choices = leaf.doc_to_choice(doc) if leaf.get_config("doc_to_choice") is not None else []
    # With several inputs (winogrande) the prompts are the choices, and `doc_to_text` is a number.
    parts = [prompt if isinstance(prompt, str) else "", *(str(choice) for choice in choices)]
    return _FRAME.sub(" ", " ".join(parts)).strip()


def held_out(corpora: Mapping[str, Path], tokenizer: Path, *, limit: int) -> Iterator[Asked]:
    """The beginnings of the held-out documents that runs are scored on.

    Args:
        corpora: folder of each source's corpus.
        tokenizer: that they were tokenised with.
        limit: the suite's `validation_bytes`.
    """
    from tokenizers import Tokenizer

    decoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    for source, path in sorted(corpora.items()):
        for key, tokens, _ in itertools.islice(open_documents(path), max(1, limit // LEAST_BYTES)):
            yield Asked(VALIDATION + source, key, decoder.decode([int(token) for token in tokens[:TOKENS]]))
