"""The configuration tree, importable as quantexp.conf."""
