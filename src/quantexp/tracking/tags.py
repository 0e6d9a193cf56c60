"""Names of tags, metrics and tables in the store."""

import re

JOBS = "jobs"
"""Folder of a sweep's run with a file for each of its jobs that has finished: a run that is gone is missed by it."""

ITEMS = "items"
"""Name of the per-item table: items.parquet is exact and what programs read, items.json is what MLflow's pages show."""

FLIPS = "flips"
"""Name of a comparison's table of changed answers, kept likewise."""

FLOOR = "floor"
"""Name of the table of the baseline's second answers, and of the metrics that count what changed."""

FLOOR_BY = "floor.by"
"""Tag of a baseline's job with how it was answered a second time, in words."""

DIVERGENCE = "divergence"
"""Name of a quant's table of tokens, how far its distributions are from the baseline's, and of the metric, their
mean."""

DIVERGENCE_ITEMS = "divergence_items"
"""Name of the table of their means over each item."""

PARTED = "parted"
"""Name of the table that says where a quant's answers leave the baseline's, and of the metric, how many do."""

ANSWERS = "answers"
"""Name of the table of the tokens that the baseline wrote, over which divergence is measured."""

GOLD = "gold"
"""Name of the table of the tokens of the gold answers, where divergence is measured over these."""

REFERENCE = "divergence.reference"
"""Tag of a baseline's job with the file that holds its distributions."""

LEFT_OUT = "left_out"
"""Column of the table of tokens, and metric, of a job whose divergence is a lower bound: the baseline's probability of
what its server has not told of."""

BASE = "divergence.base"
"""Tag of a job whose divergence was measured from a file: the file's name, without the folders."""

KIND = "quantexp.kind"
"""Tag that tells a job from the sweep it belongs to."""

CONFIG = "config.sha256"
"""Tag with the fingerprint of what a job asks for; an attempt that failed does not count once another has finished."""

PAIR = "pair.sha256"
"""Tag with the fingerprint of what a job and the baseline's that it is compared with have in common."""

STOPPED = "stopped"
"""Tag of a job that ended once its verdict was known: after how many of its items."""

SOURCE_TYPE, SOURCE_BITS = "source.file_type", "source.bits_per_weight"
"""Parameters of a job whose quant was made here: what the file that it was made from holds."""

WARNINGS = "file.warnings"
"""Parameter of a job: what llama.cpp finds odd about its file."""

TYPES, MISNOMER, MATRIX = "file.types", "file.misnomer", "file.imatrix"
"""Parameters of a job whose file is a GGUF: the types of its tensors by their share of the weights; what it holds if it
is mostly of another type than it says; the importance matrix that it names."""

MEMORY = "file.memory"
"""Parameter of a job whose engine can tell: the memory of one conversation beside the weights, by tokens of context
(`models.footprint`)."""

JOB = "job.sha256"
"""Tag with the fingerprint of all that decides a job's results: a job is finished when a run with it is."""

OF_SWEEP = "sweep"
"""Tag of a job with the ids of the sweeps that it counts in, separated by spaces: what people filter by."""

TRACED = "traces"
"""Tag of a job with the number of its traces."""

SWEEP = "sweep.sha256"
"""Tag with the fingerprint of the jobs that a sweep asks for and their analysis."""

REGISTERED = "registration."
"""Prefix of a sweep's tags that say when its declaration was made: before its jobs had begun, or how many had ended."""

DECLARATION = "registration.yaml"
"""What a sweep declares before its first answer."""

INCLUDES = "includes."
"""Prefix of a sweep's tags that name runs of earlier sweeps which it takes over instead of running the job again.

Their value is what such a job asks for (`CONFIG`).
"""

FACTOR = "factor."
"""Prefix of a job's tags with its level of each factor besides the quant (`config.condition`); runs of earlier versions
have none."""

DATA_FILE = "data.file"
"""Tag of a job with the name of the file that its items come from, without the folders; absent for other data."""

DATA_ROWS = "data.rows"
"""Tag of a job with the number of items in that file."""

IDENTITY = "identity."
"""Prefix of the tags that say what a job's scores depend on besides the quant; runs are paired by them."""

GRADING = "grading."
"""Prefix of the tags that say who a grader has asked, such as a judge, and what that was measured to be worth."""


def job_name(quant: str, task: str, seed: int | str, model: str = "") -> str:
    """Name a job on the terminal; by its model too, if that is given. MLflow's pages sort it by task and bits."""
    return f"{model} {quant} {task} seed {seed}".strip()


OUTCOME = "outcome_"
"""Prefix of an item table's columns that say what an answer is besides right or wrong, and of the metrics that follow:
rates, or mean lengths."""

LENGTHS = (f"{OUTCOME}reasoning_tokens", f"{OUTCOME}answer_tokens")
"""Those of them that are numbers of tokens; a gap is one that nobody counted, not a 0. The last is in every table with
outcomes."""

FIELD = "score_"
"""Prefix of the columns of the per-item table that hold the score of one field of an item."""

CATEGORY = "category"
"""Column of the per-item table with the kind of an item, and the field of the data that says it."""

PLACE = "place"
"""Column of the per-item table, and field of the data, with the length of an item's text in tokens and how deep in it
lies what is asked for: `4096 tokens, 25%`, or `4096 tokens` if that lies in several places."""

PLACES = re.compile(r"(\d{1,9}) tokens(?:, (\d{1,3})%)?")
"""Its form."""

RULE = "rule."
"""Prefix of the metrics that count the answers which each rule of the grader has read."""
