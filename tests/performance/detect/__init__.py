"""How soon automatic detection sees a fault, and how often it cries wolf: `make bench-detect`."""
