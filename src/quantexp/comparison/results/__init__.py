"""Per-item results that another harness has written: files and data frames in, one kind of table out, then compared."""
