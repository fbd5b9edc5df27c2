"""How a command ended, for scripts."""

SOME_FAILED = 1
"""Single cases could not be done; the others are."""
OUR_ERROR = 1
USERS_ERROR = 2
INTERRUPTED = 130
"""Ctrl-C, as shells count it."""
