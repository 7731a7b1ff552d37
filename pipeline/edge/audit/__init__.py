"""The audit: what the broker holds against what the tables hold."""
