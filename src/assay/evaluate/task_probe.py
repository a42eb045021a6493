"""Load every task of a suite and build its longest requests, before any run is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.suite import SuiteTask
from assay.core.errors import AssayError, ConfigError, Damaged
from assay.evaluate.log_filter import capture_harness_log
from assay.evaluate.offline import use_mirror

if TYPE_CHECKING:
    from assay.evaluate.task_folder import TaskFolder

BUDGET = 200
"""Maximum number of requests to build per task, longest items first. Each subtask gets at least one request."""


@dataclass(frozen=True, kw_only=True)
class TaskProbe:
    """Results of loading a task and building its longest requests."""

    task: str
    """Name of the task in the suite."""
    items: int
    """Number of items that will be scored."""
    left_out: int
    """Number of items that are omitted, because a choice exceeds the model's context."""
    probed: int
    """Number of requests that were built."""
    longest: int | None
    """Tokens of the longest model input and of its generated text; ``None`` without the tokenizer."""
    truncated: int
    """Number of probed requests whose prompt loses its beginning, because the request exceeds the context."""
    examples_are_items: bool
    """Whether few-shot examples come from the evaluated items, because the data set has no other split."""


def probe_tasks(
    tasks: Sequence[SuiteTask],
    *,
    mirror: Path | None,
    folder: TaskFolder | None,
    context: int,
    tokenizer: Path | None,
    report: Callable[[str], None] = lambda _task: None,
) -> Iterator[TaskProbe | AssayError]:
    """Load each task and build its longest requests.

    Args:
        tasks: tasks of the suite.
        mirror: local mirror of the benchmarks; `None` for the hub.
        folder: the team's own task definitions.
        context: tokens of the model's context.
        tokenizer: the runs' `tokenizer.json`; without it, lengths are not measured.
        report: receives the name of each task before it is loaded.

    Yields:
        For each task, the results, or the error that would prevent the scoring of every run.

    Raises:
        AssayError: a task is unknown, or the mirror or the folder of own tasks is missing.
    """
    from assay.evaluate.tasks import make_task_manager

    if mirror is not None and tasks:
        use_mirror(mirror)
    include_path = None if folder is None else folder.path
    with capture_harness_log(), contextlib.nullcontext() if folder is None else contextlib.chdir(folder.root):
        manager = make_task_manager(tasks, include_path)
        model = _context_model(context, tokenizer)
        for task in tasks:
            report(task.task)
            try:
                found: TaskProbe | AssayError = _probe(manager, task, include_path, model)
            except AssayError as error:
                found = error
            yield found


def _probe(manager: Any, task: SuiteTask, include_path: Path | None, model: Any) -> TaskProbe:
    from assay.evaluate.tasks import examples_are_items, load_task, require_scorable, seed_everything, select_items

    seed_everything()
    harness = load_task(manager, task, include_path)
    require_scorable(task, harness["tasks"])
    if not harness["tasks"]:
        raise ConfigError(
            f"task {task.task!r}: the group has no subtasks.", fix=f"Remove {task.task!r} from the suite."
        )
    loaded = select_items(task, harness, model)
    items, lengths = 0, []
    for name, leaf in loaded.leaves.items():
        chosen = loaded.samples.get(name, range(len(leaf.eval_docs)))
        items += len(chosen)
        share = max(1, BUDGET // len(loaded.leaves))
        lengths += _lengths(task, name, leaf, _longest(leaf, chosen, share), model)
    known = [length for length in lengths if length is not None]
    return TaskProbe(
        task=task.task,
        items=items,
        left_out=sum(loaded.left_out.values()),
        probed=len(lengths),
        longest=max(known, default=None),
        truncated=sum(length > model.max_length for length in known),
        examples_are_items=task.num_fewshot > 0 and any(map(examples_are_items, loaded.leaves.values())),
    )


def _longest(leaf: Any, candidates: Sequence[int], number: int) -> list[int]:
    """Return the items with the most characters, which have the longest requests, in order."""
    docs = leaf.eval_docs
    if len(candidates) <= number:
        return list(candidates)
    sizes = {index: len(str(docs[index])) for index in candidates}
    return sorted(sorted(sizes, key=lambda index: -sizes[index])[:number])


def _lengths(task: SuiteTask, name: str, leaf: Any, chosen: list[int], model: Any) -> list[int | None]:
    """Build requests, and return the tokens of each: of the prompt, and of the choice or the longest generation."""
    from assay.evaluate.tasks import generated_tokens

    try:
        leaf.build_all_requests(samples=chosen)
        requests = list(leaf.instances)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"task {name!r}: lm-eval cannot build its requests: {type(error).__name__}: {reason}",
            fix=f"Correct the definition or the items of the task, or remove {task.task!r} from the suite.",
        ) from error
    if model.tokenizer is None:
        return [None] * len(requests)
    if leaf.OUTPUT_TYPE == "loglikelihood_rolling":
        return [model.max_length] * len(requests)  # scored in windows of the context
    return [_input_tokens(request, model) + generated_tokens(request) for request in requests]


def _input_tokens(request: Any, model: Any) -> int:
    """Count the tokens of a model's input: the prompt, and of a choice all tokens but the last."""
    prompt, choice = request.args[:2]
    if isinstance(choice, str):
        return max(0, len(model.tok_encode(prompt + choice)) - 1)
    return len(model.tok_encode(prompt))


def _context_model(context: int, tokenizer: Path | None) -> Any:
    """Make a stand-in for a run's model: its context and its tokenizer, as lm-eval uses them."""
    from lm_eval.api.model import TemplateLM
    from tokenizers import Tokenizer

    try:
        encoder = None if tokenizer is None else Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # tokenizers raises bare exceptions
        raise Damaged(f"{tokenizer} is not a tokenizer file ({error}).", fix="Restore the file.") from error

    class ContextModel(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
        """A model that encodes, and computes nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.max_length = context
            self.tokenizer = encoder

        @property
        def eot_token_id(self) -> int:
            """The id of the end-of-text token, which no request contains."""
            return 0

        def tok_encode(self, string: str, **_: Any) -> list[int]:
            """Encode a text; without a tokenizer, as one token, so that no item is left out."""
            ids = [0] if self.tokenizer is None else self.tokenizer.encode(string, add_special_tokens=False).ids
            return list(ids)

        def _loglikelihood_tokens(self, requests: Any, **_: Any) -> Any:
            raise NotImplementedError

        loglikelihood_rolling = generate_until = _loglikelihood_tokens

    return ContextModel()
