"""Per-item results that somebody else's harness has written: files and data frames in, one kind of table out."""
