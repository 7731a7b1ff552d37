"""Seeded faults of the kinds that lie around the ledger, judged by the oracle."""
