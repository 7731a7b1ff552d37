"""Who may what: API keys, people, roles."""
