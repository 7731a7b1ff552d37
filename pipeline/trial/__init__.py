"""To try inferwatch out: the load generator and the demo. Nothing of the product imports it."""
