"""What an operator asks and does: doctor, alerts, dead letters, history, plots, rule files."""
