"""What changed between two sides of inferences, and what of them makes the difference."""
