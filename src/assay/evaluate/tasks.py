"""Load the tasks of a suite with lm-eval, and select the items to score."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.config.suite import SuiteTask
from assay.core.errors import AssayError, ConfigError, NotFound, Refused
from assay.evaluate.task_check import require_tasks

DEFAULT_GENERATED = 256
"""Maximum number of generated tokens if a task declares none: `HFLM.max_gen_toks` of lm-eval."""


@dataclass(frozen=True, kw_only=True)
class LoadedTask:
    """A task of a suite with its items."""

    task: SuiteTask
    harness: dict[str, Any]
    """The result of lm-eval's `TaskManager.load`: `tasks`, `groups` and `group_map`."""
    samples: dict[str, list[int]]
    """Ascending indices of the selected items of each leaf task that is not scored in full."""
    left_out: dict[str, int]
    """Number of items of each leaf task that are omitted because a choice exceeds the model's context."""
    requests: int
    """Number of loglikelihoods (or generated texts) that the model computes."""

    @property
    def leaves(self) -> dict[str, Any]:
        """lm-eval's leaf tasks by name, in lm-eval's order."""
        leaves: dict[str, Any] = self.harness["tasks"]
        return leaves

    @property
    def groups(self) -> dict[str, Any]:
        """lm-eval's groups by name. If the task is a group, this group is first."""
        groups: dict[str, Any] = self.harness.get("groups", {})
        return groups


def spread(items: int, limit: int | None) -> list[int] | None:
    """Select a fixed, evenly spread sample of a task's items; None selects all items.

    >>> spread(10, 4)
    [0, 2, 5, 7]
    >>> spread(3, 4)
    """
    if limit is None or limit >= items:
        return None
    return [index * items // limit for index in range(limit)]


def load_tasks(
    tasks: Sequence[SuiteTask], lm: Any, *, report: Callable[[str], None], include_path: Path | None = None
) -> list[LoadedTask]:
    """Load the tasks, and select the items to score.

    All tasks are loaded before the first task is scored, so that a missing data set causes an early failure.

    Args:
        tasks: tasks of the suite.
        lm: lm-eval's model, which determines the items that fit its context.
        report: called with the name of each task before the task is loaded.
        include_path: folder of the project's own task definitions.

    Raises:
        AssayError: a task is unknown, its items cannot be read, or the task cannot be scored as declared.
    """
    manager = make_task_manager(tasks, include_path)
    loaded = []
    for task in tasks:
        report(task.task)
        seed_everything()
        harness = load_task(manager, task, include_path)
        require_scorable(task, harness["tasks"])
        loaded.append(select_items(task, harness, lm))
    return loaded


def seed_everything() -> None:
    """Set the global random states to those of lm-eval's command line."""
    import numpy as np
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.utils import set_torch_seed

    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)  # noqa: NPY002  # tasks use numpy's global state
    set_torch_seed(DEFAULT_OTHER_SEED)


def make_task_manager(tasks: Sequence[SuiteTask], include_path: Path | None) -> Any:
    """Create lm-eval's `TaskManager` on the folders that define the given tasks only.

    Raises:
        AssayError: a task is unknown, or `include_path` is invalid.
    """
    from lm_eval.tasks import TaskManager

    names = [task.task for task in tasks]
    folders = require_tasks(names, include_path=include_path).folders(names)
    return TaskManager(include_defaults=False, include_path=[str(folder) for folder in folders])


def load_task(manager: Any, task: SuiteTask, include_path: Path | None = None) -> dict[str, Any]:
    """Load a task with its items, in the form of lm-eval's `TaskManager.load`.

    Raises:
        NotFound: its items cannot be read.
        ConfigError: its definition cannot be loaded, or names a split that the data set lacks.
    """
    try:
        harness: dict[str, Any] = manager.load([task.task])
    except (Exception, SystemExit) as error:
        raise _load_error(manager, task, include_path, error) from error
    return harness


def _load_error(manager: Any, task: SuiteTask, include_path: Path | None, error: BaseException) -> AssayError:
    """Describe why lm-eval cannot load a task: an error in the task's code, a missing split, or missing data."""
    reason = " ".join(str(error).split()) or type(error).__name__
    remove = f"remove {task.task!r} from the suite"
    if (file := _own_file(error, include_path)) is not None:
        return ConfigError(
            f"task {task.task!r}: {file[0]}, line {file[1]}, failed: {type(error).__name__}: {reason}",
            fix=f"Correct the file, or {remove}.",
        )
    if isinstance(error, KeyError):
        return ConfigError(
            f"task {task.task!r}: its data set has no split or field {reason}.",
            fix=f"Correct the splits in the task's definition, add the split to the data set, or {remove}.",
        )
    if isinstance(error, (ImportError, AttributeError, SyntaxError, TypeError)):
        return ConfigError(
            f"task {task.task!r}: its definition cannot be loaded: {type(error).__name__}: {reason}",
            fix=f"Correct the definition, install what it imports, or {remove}.",
        )
    origin, fix = _origin(manager, task, include_path)
    return NotFound(
        f"task {task.task!r}: its items could not be read from {origin}: {reason}", fix=f"{fix}, or {remove}."
    )


def _own_file(error: BaseException, include_path: Path | None) -> tuple[Path, int] | None:
    """Return the innermost Python file and line of a folder of own tasks that an error passed."""
    if include_path is None:
        return None
    own = include_path.resolve()
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve().is_relative_to(own):
        return Path(error.filename), error.lineno or 0
    frames = [(Path(frame.filename), frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    return next(((path, line) for path, line in reversed(frames) if path.resolve().is_relative_to(own)), None)


def _origin(manager: Any, task: SuiteTask, include_path: Path | None) -> tuple[str, str]:
    """Return the origin of a task's items, and how to make the items available."""
    import datasets

    entry = manager.task_index.get(task.task)
    definition = entry.yaml_path if entry else None
    if include_path is not None and definition is not None and definition.is_relative_to(include_path):
        return f"the data files of {definition}", "Correct them (relative paths start at the project root)"
    if datasets.config.HF_HUB_OFFLINE:
        return f"the mirror {datasets.config.HF_DATASETS_CACHE}", "Add its data set to the mirror"
    return "the hub", (
        "Check the network. For nodes without network, point `paths.benchmarks` at a mirror on the shared file system, or run"
        " `assay doctor sweep=NAME` on a node with network and share its HF_HOME (cluster.environment)"
    )


def _seed_examples(leaf: Any) -> None:
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    leaf.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def require_scorable(task: SuiteTask, leaves: dict[str, Any]) -> None:
    """Refuse tasks that cannot be scored as the suite declares, and set the number of few-shot examples."""
    for name, leaf in leaves.items():
        if getattr(leaf, "UNSAFE_CODE", False):
            raise Refused(
                f"task {name!r} runs code that the model generates, which assay does not support.",
                fix=f"Remove {task.task!r} from the suite.",
            )
        _require_examples(task, name, leaf)
        if leaf.get_config("num_fewshot") == 0 and task.num_fewshot != 0:
            # lm-eval would use 0 few-shot examples without an error.
            raise ConfigError(
                f"task {name!r}: `num_fewshot` {task.num_fewshot} is invalid; the task allows 0 few-shot examples.",
                fix=f"Set num_fewshot of {task.task!r} to 0.",
            )
        leaf.set_config(key="num_fewshot", value=task.num_fewshot)
        _seed_examples(leaf)


def _require_examples(task: SuiteTask, name: str, leaf: Any) -> None:
    """Refuse a task whose data set has fewer few-shot examples than the suite declares."""
    pool = getattr(getattr(leaf, "sampler", None), "df", None)
    if task.num_fewshot == 0 or pool is None or leaf.get_config("num_fewshot") == 0:
        return
    split = leaf.fewshot_cfg.split
    # lm-eval excludes the evaluated item, and draws one more for it.
    available = len(pool) - (split == leaf.get_config("test_split"))
    if available < task.num_fewshot:
        place = f"the split {split!r}" if split else "its data set"
        raise ConfigError(
            f"task {name!r}: `num_fewshot` {task.num_fewshot} is invalid; {place} has {max(available, 0)} few-shot examples.",
            fix=f"Set num_fewshot of {task.task!r} to at most {max(available, 0)}, or add examples to the data set.",
        )


def examples_are_items(leaf: Any) -> bool:
    """Return whether few-shot examples come from the evaluated items, because a task has no other split.

    lm-eval then may show an item with its answer before it asks for it.
    """
    config = leaf.get_config
    declared = leaf.fewshot_cfg.split or leaf.fewshot_cfg.samples or config("training_split")
    return not declared and (config("test_split") is None or config("validation_split") is None)


def select_items(task: SuiteTask, harness: dict[str, Any], lm: Any) -> LoadedTask:
    """Select the items of a task that fit the model's context, in full or as a sample.

    Raises:
        Refused: no item fits, or the task generates more tokens than the context has.
    """
    samples: dict[str, list[int]] = {}
    left_out: dict[str, int] = {}
    requests = 0
    for name, leaf in harness["tasks"].items():
        docs = leaf.eval_docs
        sample = spread(len(docs), task.limit)
        candidates = range(len(docs)) if sample is None else sample
        _require_room(task, name, leaf, candidates, lm)
        too_long = _too_long(leaf, docs, candidates, lm)
        fitting = [index for index in candidates if index not in too_long]
        if not fitting:
            raise Refused(
                f"task {name!r}: the choices of all items exceed the model's context of {lm.max_length} tokens.",
                fix=f"Remove {task.task!r} from the suite for models of this size.",
            )
        if sample is not None or too_long:
            samples[name] = fitting
        if too_long:
            left_out[name] = len(too_long)
        requests += len(fitting) * max(1, len(_choices(leaf, docs[fitting[0]])))
    return LoadedTask(task=task, harness=harness, samples=samples, left_out=left_out, requests=requests)


def _require_room(task: SuiteTask, name: str, leaf: Any, candidates: Sequence[int], lm: Any) -> None:
    """Refuse a task that generates so many tokens that the model's context has no room for a prompt."""
    if leaf.OUTPUT_TYPE != "generate_until" or not candidates:
        return
    leaf.build_all_requests(samples=[candidates[0]])
    _seed_examples(leaf)  # the request above drew few-shot examples
    most = max((generated_tokens(request) for request in leaf.instances), default=0)
    if most >= lm.max_length:
        raise Refused(
            f"task {name!r}: the task generates up to {most} tokens, which leaves no room for a prompt in the model's context of"
            f" {lm.max_length} tokens.",
            fix=f"Remove {task.task!r} from the suite, use a proxy with a longer context, or set `max_gen_toks` in the"
            " task's generation_kwargs.",
        )


def generated_tokens(request: Any) -> int:
    """Return the maximum number of tokens that a request generates; lm-eval's default is 256."""
    from lm_eval.models.utils import normalize_gen_kwargs

    if request.request_type != "generate_until":
        return 0
    return int(normalize_gen_kwargs(request.args[1], DEFAULT_GENERATED)["max_gen_toks"])


def _choices(leaf: Any, doc: Any) -> list[str]:
    """Return the texts of an item that are scored by loglikelihood.

    The result is empty if the texts are known only after the prompt is rendered.
    """
    if leaf.OUTPUT_TYPE == "multiple_choice" and leaf.get_config("doc_to_choice") is not None:
        if getattr(leaf, "multiple_input", 0):
            return [str(leaf.doc_to_target(doc))] * len(leaf.doc_to_choice(doc))
        return [str(choice) for choice in leaf.doc_to_choice(doc)]
    return [str(leaf.doc_to_target(doc))] if leaf.OUTPUT_TYPE == "loglikelihood" else []


def _too_long(leaf: Any, docs: Any, candidates: Iterable[int], lm: Any) -> set[int]:
    """Return the items with a choice that exceeds the model's context.

    lm-eval fails at the first such item. A token has at least one byte, except for a few that a tokenizer may add. Most
    choices therefore need no tokenization.
    """
    suspects = [
        i for i in candidates if any(len(text.encode()) + 16 > lm.max_length for text in _choices(leaf, docs[i]))
    ]
    if not suspects:
        return set()
    leaf.build_all_requests(samples=suspects)
    return {
        suspects[request.doc_id] for request in leaf.instances if _choice_tokens(lm, *request.args[:2]) > lm.max_length
    }


def _choice_tokens(lm: Any, context: str, choice: str) -> int:
    """Count the tokens of a choice as lm-eval separates them from the prompt."""
    if context == "":
        return len(lm.tok_encode(choice, add_special_tokens=False))
    return len(lm._encode_pair(context, choice)[1])  # noqa: SLF001  # the split that determines whether lm-eval fails
