"""What everybody in front of the HTTP side shares: rules, silences, saved views, alerts, as they stand now."""
