"""Graders: an output and an item in, a grade out."""
