"""The badge of every page, and what it leads to: is everything there?"""

from typing import Any

from pipeline.web.asgi import Refused
from pipeline.web.console.visit import Looking, Page

LATE_S = 120.0


async def badge(looking: Looking) -> Page:
    """Complete up to when."""
    return Page("badge.html", "", await _told(looking))


async def show(looking: Looking) -> Page:
    """Lag by role, and the last audit."""
    return Page("pipeline.html", "Pipeline", await _told(looking))


async def _told(looking: Looking) -> dict[str, Any]:
    try:
        pipeline = await looking.asking.get("pipeline")
    except Refused as why:
        return {"pipeline": None, "refused": why, "problems": []}
    problems = [f"{one['role']}: {one['problem']}" for one in pipeline["partitions"] if one["problem"]]
    late = [role for role in pipeline["roles"] if (role["lag_s"] or 0) > LATE_S]
    problems += [f"{role['role']} is {role['lag_s']:.0f} s behind" for role in late]
    problems += [f"no {role['role']} runs" for role in pipeline["roles"] if not role["members"]]
    if pipeline["audit"] and not pipeline["audit"]["ok"]:
        problems.append("the last audit found what is wrong")
    return {"pipeline": pipeline, "refused": None, "problems": problems}
