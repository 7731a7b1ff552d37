"""People's rules over sliding windows: what they measure, when they are met, in which words."""
