"""Automatic detection: from closed windows to what got worse, since when and by how much; no rule needed.

    window ─▶ signals ─▶ baseline ─▶ residuals ─┬▶ bank   ─┬▶ tail ─▶ detector ─▶ findings
                            ▲                   └▶ ladder ─┘            │
                            └──────── learns only from what is normal ──┘

Everything is numpy over all models of a partition at once: arrays end in the model's column, so that a maximum over
members, or a step of a filter, runs along memory.
"""
