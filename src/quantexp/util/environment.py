"""Environment variables by which a sweep tells its jobs what is theirs, whatever process they run in."""

DEVICES = "QUANTEXP_DEVICES"
"""Environment variable with the variable that names the GPUs which the processes of this machine divide."""

PROCESSES = "QUANTEXP_PROCESSES"
"""Environment variable with the number of processes that divide them."""

PARENT = "QUANTEXP_SWEEP"
"""Environment variable with the id of the sweep's run; every launcher hands the environment on to its jobs."""

DECLARED = "QUANTEXP_DECLARED"
"""Environment variable with the time of the sweep's declaration, in seconds since 1970."""

SEVERAL_MODELS = "QUANTEXP_SEVERAL_MODELS"
"""Environment variable that is set if the sweep has several models, which its jobs' lines then name."""

REFERENCES = "QUANTEXP_REFERENCES"
"""Environment variable with the baseline's levels of factors, by model and task, as JSON; unset if there are none."""

FOLDER = "QUANTEXP_FOLDER"
"""Environment variable with the folder in which the sweep was started, for processes that begin in another."""
