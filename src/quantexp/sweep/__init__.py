"""Many jobs: the sweep, its launchers, and the worker that runs one of them."""
