"""The published table of paired differences, and answers with its counts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Cell(NamedTuple):
    """One line of the published table, as printed, and the counts behind it."""

    task: str
    quant: str
    b: int
    c: int
    low: str
    high: str
    p: str


PUBLISHED = [
    Cell("gsm8k", "Q5_K_M", 22, 16, "-0.010", "0.030", ".37"),
    Cell("gsm8k", "Q4_K_M", 16, 16, "-0.018", "0.018", "1.00"),
    Cell("gsm8k", "Q3_K_M", 31, 19, "-0.003", "0.043", ".10"),
    Cell("triviaqa", "Q5_K_M", 5, 8, "-0.017", "0.007", ".49"),
    Cell("triviaqa", "Q4_K_M", 21, 14, "-0.007", "0.032", ".24"),
    Cell("triviaqa", "Q3_K_M", 37, 18, "0.008", "0.057", ".011"),
]

# The published p of TriviaQA Q4, .24, does not follow from the definition that gives the other five: with ties on both
# sides, p is .27. Only half the ties would give .24, and that misses GSM8K Q5 (.33) and TriviaQA Q5 (.41):
# `test_no_definition_of_p_gives_the_whole_table`.
WITH_TIES = {("triviaqa", "Q4_K_M"): ".27"}

# Who was right under Q8_0: TriviaQA's 292 of 600 follow from its Wilson interval [.447, .527]; GSM8K's count is not
# known, and no difference depends on it.
RIGHT = {"gsm8k": 480, "triviaqa": 292}

# Which of the 600 answers changed is not known, and 10,000 resamples move p by a few thousandths and an end of an
# interval by an answer from one order to the next. Of the shuffles 0, 1, 2, ... number 691 is the first under which all
# six cells come out as printed; most give two to four of them. So these digits alone prove little, and the exact law of
# the resampled difference, which knows no order, is tested beside them.
SHUFFLE = 691

N, ITEMS, SEEDS = 600, 200, 3


def published_answers() -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Tell which of the 600 answers are right, by task and quant; the changed ones are shuffled among them."""
    rng = np.random.default_rng(SHUFFLE)
    found = {}
    for task, right in RIGHT.items():
        baseline = rng.permutation(N) < right
        answers = {"Q8_0": baseline}
        for cell in (cell for cell in PUBLISHED if cell.task == task):
            quant = baseline.copy()
            quant[rng.permutation(np.flatnonzero(baseline))[: cell.b]] = False
            quant[rng.permutation(np.flatnonzero(~baseline))[: cell.c]] = True
            answers[cell.quant] = quant
        found[task] = answers
    return found


def format_p(p: float) -> str:
    """Write p as printed: two digits, three below .05, and no leading zero."""
    return (f"{p:.3f}" if p < 0.05 else f"{p:.2f}").removeprefix("0")
