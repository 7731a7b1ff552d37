"""Who is told what and when: groups, limits, silences, routes, repeats."""
