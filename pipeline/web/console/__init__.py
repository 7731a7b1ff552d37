"""The console: pages for people, made from what the other parts answer. It keeps nothing; the address says all."""
