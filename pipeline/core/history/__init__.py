"""The detector's machine over history: backtests, and pictures of what they found."""
