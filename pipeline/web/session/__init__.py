"""The part `session`: people sign in and out."""
