"""How it is wired: the only place that knows Faust."""
