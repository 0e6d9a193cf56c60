"""Everything that speaks to MLflow; nothing else does."""

import os

# Set before the import: runs here send nothing to anyone unless the user has asked for it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Nor does a bar of MLflow's break into ours for every small file.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Nor do its lines on how it makes the tables of a new store.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# Nor the address of each run that has ended on a server.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# As many connections as files are fetched at once (reader.FILES_AT_ONCE): MLflow keeps 10, and opens the rest anew.
os.environ.setdefault("MLFLOW_HTTP_POOL_MAXSIZE", "64")
