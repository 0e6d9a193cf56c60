"""The metric `code_eval`, by which tasks of lm-evaluation-harness run code that a model has written, in the sandbox.

The harness's tasks take it from the package evaluate, where it runs code beside them with little protection. What
stands for it here runs nothing when a task calls it: it notes what is to be run, and knows the outcome when it is asked
again.
"""

import builtins
import symtable
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from quantexp.stats.at_k import pass_at_k
from quantexp.util.code_sandbox import Outcome, Sandbox, TestCheck

NAME = "code_eval"


class CodeEval:
    """Has the interface of evaluate's metric, as far as tasks use it."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str], Outcome] = {}
        self._wanted: dict[tuple[str, str], None] = {}
        self.last: Outcome | None = None
        """The outcome of the last code that was asked for, if it is known."""

    def compute(
        self, *, references: Sequence[str], predictions: Sequence[Sequence[str]], k: Sequence[int] = (1,), **_: Any
    ) -> tuple[dict[str, float], dict[int, Any]]:
        """Return pass@k of candidates.

        Args:
            references: of each problem the tests, Python code.
            predictions: of each problem the candidates.
            k: numbers of candidates.

        Returns:
            The metric by name, and nothing else; 0 if the outcomes are not known yet.
        """
        rows = []
        for tests, candidates in zip(references, predictions, strict=True):
            ends = [self._find_outcome(str(code), str(tests)) for code in candidates]
            rows.append([float(end is not None and end.kind == "passed") for end in ends])
        right = np.array(rows, dtype=np.float64)
        return {f"pass@{each}": float(pass_at_k(right, each).mean()) for each in k if each <= right.shape[1]}, {}

    def _find_outcome(self, code: str, tests: str) -> Outcome | None:
        self.last = self._outcomes.get((code, tests))
        if self.last is None:
            self._wanted[code, tests] = None
        return self.last

    def run_wanted(self, sandbox: Sandbox) -> None:
        """Run what has been asked for since the last time."""
        wanted, self._wanted = [*self._wanted], {}
        checks = [TestCheck(code, tests, list_free_names(tests)) for code, tests in wanted]
        self._outcomes.update(zip(wanted, sandbox.run(checks), strict=True))

    def forget(self) -> None:
        """Forget all outcomes."""
        self._outcomes, self._wanted, self.last = {}, {}, None


CODE_EVAL = CodeEval()
"""The one that tasks have been given."""


@contextmanager
def replace_code_eval() -> Iterator[None]:
    """Give the sandbox's metric to tasks that are loaded meanwhile."""
    try:
        import evaluate
    except ModuleNotFoundError:  # then no task can load it either
        yield
        return
    load = evaluate.load
    evaluate.load = lambda path, *given, **named: CODE_EVAL if path == NAME else load(path, *given, **named)
    try:
        yield
    finally:
        evaluate.load = load
        CODE_EVAL.forget()


def uses_code_eval(task: Any) -> bool:
    """Return whether a task of the harness runs code by this metric."""
    # The harness keeps bound `__call__`s of some functions.
    functions = [getattr(each, "__self__", each) for each in task._metric_fn_list.values()]
    return any(value is CODE_EVAL for each in functions for value in getattr(each, "__globals__", {}).values())


def list_free_names(tests: str) -> frozenset[str]:
    """List the names that tests use and that neither they nor Python define: those of the code."""
    try:
        top = symtable.symtable(tests, "<tests>", "exec")
    except (SyntaxError, ValueError):
        return frozenset()  # they fail whatever the code
    own = {each.get_name() for each in top.get_symbols() if each.is_assigned() or each.is_imported()}
    tables, used = [top], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        is_top = table.get_type() == "module"
        used |= {each.get_name() for each in table.get_symbols() if each.is_global() or is_top}
    return frozenset(used - own - vars(builtins).keys())
