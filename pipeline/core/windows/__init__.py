"""Events become closed windows: clock, numbers, fold, cut, publication."""
