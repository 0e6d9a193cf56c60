"""Calls of functions: in an answer, in a schema, and compared with those that were wanted."""
