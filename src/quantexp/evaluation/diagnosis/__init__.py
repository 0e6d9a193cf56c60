"""A check of the installation and of this machine: one finding a line, with the command that mends it."""
