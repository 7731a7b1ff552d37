"""Automatic detection: from closed windows to what got worse, since when and by how much; no rule needed.

    window ─▶ signals ─▶ baseline ─▶ residuals ─┬▶ bank   ─┬▶ tail ─▶ scoring ─▶ recovery ─▶ findings
                            ▲                   └▶ ladder ─┘                        │
                            └──────── learns only from what is normal ──────────────┘

Everything is numpy over all models of a partition at once: arrays end in the model's column, so that a maximum over
members, or a step of a filter, runs along memory.

What a new model gets, by its age: 10 minutes: gross faults, on two windows or more (bank: large effects; ladder: 4
windows). 30 minutes to 6 hours: the ladder's scales to 64 windows. 1 day: the season, single windows. 2, 3, 5 days: the
bank's third smallest, second smallest and smallest effects. A week: the weekend's traffic. Until the tails of its own
hours are known, theory sets the thresholds, and carefully.
"""
