"""Names of cuts, the chain by which each is taken once, and where a worker stands."""
