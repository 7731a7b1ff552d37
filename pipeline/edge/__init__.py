"""How we touch the world. Decides nothing."""
