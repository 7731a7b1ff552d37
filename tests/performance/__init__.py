"""What an event costs and how long it takes: `python -m tests.performance`. Prints figures, asserts nothing."""
