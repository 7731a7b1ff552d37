"""The operator's verbs, a module each."""
