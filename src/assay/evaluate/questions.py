"""The tasks of a suite as lm-eval knows them, and which of their questions are asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from assay.errors import AssayError
from assay.evaluate.harness import known
from assay.suite import Task


@dataclass(frozen=True, kw_only=True)
class LoadedTask:
    """One task of a suite, ready to be asked."""

    task: Task
    harness: dict[str, Any]
    """What lm-eval's `TaskManager.load` gave: `tasks`, `groups` and `group_map`."""
    samples: dict[str, list[int]]
    """The questions of each leaf task that is not asked in full, ascending."""
    left_out: dict[str, int]
    """How many questions of each leaf task are not asked because an answer is longer than the model's context."""
    requests: int
    """Loglikelihoods (or texts) that the model has to give."""

    @property
    def leaves(self) -> dict[str, Any]:
        """lm-eval's leaf tasks by name, in its order."""
        leaves: dict[str, Any] = self.harness["tasks"]
        return leaves

    @property
    def groups(self) -> dict[str, Any]:
        """lm-eval's groups by name, the task itself first where it is one."""
        groups: dict[str, Any] = self.harness.get("groups", {})
        return groups


def spread(questions: int, limit: int | None) -> list[int] | None:
    """A fixed sample, evenly spread over a task's questions; ``None`` for all of them.

    >>> spread(10, 4)
    [0, 2, 5, 7]
    >>> spread(3, 4)
    """
    if limit is None or limit >= questions:
        return None
    return [index * questions // limit for index in range(limit)]


def load_tasks(tasks: Sequence[Task], lm: Any, *, report: Callable[[str], None]) -> list[LoadedTask]:
    """Load the tasks' questions, and choose those to ask.

    Everything is loaded before anything is scored, so that a data set that is missing costs no time.

    Args:
        tasks: as the suite has them.
        lm: the harness's model, which says what fits its context.
        report: told the task that is being loaded.

    Raises:
        AssayError: lm-eval does not know a task; its questions cannot be had; or it cannot be asked this way.
    """
    from lm_eval.tasks import TaskManager

    names = [task.task for task in tasks]
    folders = [str(folder) for folder in known(names).folders(names)]
    manager = TaskManager(include_defaults=False, include_path=folders)
    loaded = []
    for task in tasks:
        report(task.task)
        seed_everything()
        harness = load_task(manager, task)
        _check(task, harness["tasks"])
        loaded.append(_choose(task, harness, lm))
    return loaded


def seed_everything() -> None:
    """Set the global random states to what lm-eval's command line sets them to before it loads and scores tasks."""
    import numpy as np
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.utils import set_torch_seed

    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)  # noqa: NPY002  # tasks draw from numpy's global state
    set_torch_seed(DEFAULT_OTHER_SEED)


def load_task(manager: Any, task: Task) -> dict[str, Any]:
    """One task with its questions, as lm-eval's `TaskManager.load` gives it.

    Raises:
        AssayError: its questions cannot be had.
    """
    import datasets

    try:
        harness: dict[str, Any] = manager.load([task.task])
    except Exception as error:
        offline = datasets.config.HF_HUB_OFFLINE
        where = f"the mirror {datasets.config.HF_DATASETS_CACHE}" if offline else "the hub"
        what = (
            "Add its data set to the mirror"
            if offline
            else "Check the network, or point `paths.benchmarks` at a mirror"
        )
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AssayError(
            f"task {task.task!r}: its questions could not be read from {where}: {reason}",
            fix=f"{what}, or leave {task.task!r} out of the suite.",
        ) from error
    return harness


def _check(task: Task, leaves: dict[str, Any]) -> None:
    """Refuse what would not be scored as the suite says, and set the number of solved examples."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    for name, leaf in leaves.items():
        if getattr(leaf, "UNSAFE_CODE", False):
            raise AssayError(
                f"task {name!r} runs code that the model writes, which assay does not do.",
                fix=f"Leave {task.task!r} out of the suite.",
            )
        if leaf.get_config("num_fewshot") == 0 and task.num_fewshot != 0:
            # lm-eval would go on with 0 in silence.
            raise AssayError(
                f"task {name!r} is defined with 0 solved examples; num_fewshot is {task.num_fewshot}.",
                fix=f"Set num_fewshot of {task.task!r} to 0.",
            )
        leaf.set_config(key="num_fewshot", value=task.num_fewshot)
        leaf.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def _choose(task: Task, harness: dict[str, Any], lm: Any) -> LoadedTask:
    samples: dict[str, list[int]] = {}
    left_out: dict[str, int] = {}
    requests = 0
    for name, leaf in harness["tasks"].items():
        docs = leaf.eval_docs
        sample = spread(len(docs), task.limit)
        asked = range(len(docs)) if sample is None else sample
        too_long = _too_long(leaf, docs, asked, lm)
        fitting = [index for index in asked if index not in too_long]
        if not fitting:
            raise AssayError(
                f"task {name!r}: no question's answers fit the model's context of {lm.max_length} tokens.",
                fix=f"Leave {task.task!r} out of the suite for models of this size.",
            )
        if sample is not None or too_long:
            samples[name] = fitting
        if too_long:
            left_out[name] = len(too_long)
        requests += len(fitting) * max(1, len(_answers(leaf, docs[fitting[0]])))
    return LoadedTask(task=task, harness=harness, samples=samples, left_out=left_out, requests=requests)


def _answers(leaf: Any, doc: Any) -> list[str]:
    """The texts whose loglikelihoods a question asks for, where they can be told before its prompt is made."""
    if leaf.OUTPUT_TYPE == "multiple_choice" and leaf.get_config("doc_to_choice") is not None:
        if getattr(leaf, "multiple_input", 0):
            return [str(leaf.doc_to_target(doc))] * len(leaf.doc_to_choice(doc))
        return [str(choice) for choice in leaf.doc_to_choice(doc)]
    return [str(leaf.doc_to_target(doc))] if leaf.OUTPUT_TYPE == "loglikelihood" else []


def _too_long(leaf: Any, docs: Any, asked: Iterable[int], lm: Any) -> set[int]:
    """Questions with an answer of more tokens than the model's context; lm-eval stops at the first of them.

    A token is at least a byte, but for a few that a tokenizer may add; so most need no tokenising.
    """
    suspects = [i for i in asked if any(len(text.encode()) + 16 > lm.max_length for text in _answers(leaf, docs[i]))]
    if not suspects:
        return set()
    leaf.build_all_requests(samples=suspects)
    return {
        suspects[request.doc_id] for request in leaf.instances if _answer_tokens(lm, *request.args[:2]) > lm.max_length
    }


def _answer_tokens(lm: Any, context: str, answer: str) -> int:
    """Tokens of an answer as the harness cuts it off its prompt."""
    if context == "":
        return len(lm.tok_encode(answer, add_special_tokens=False))
    return len(lm._encode_pair(context, answer)[1])  # noqa: SLF001  # the very cut that decides whether lm-eval stops
