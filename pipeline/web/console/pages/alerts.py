"""Alerts: what is open, and what was."""

from pipeline.web.console.visit import Looking, Page


async def show(looking: Looking) -> Page:
    """Both; the past in pages."""
    ask = looking.asking
    cursor = looking.at.query.get("cursor", "")
    reply = await ask.all(open=ask.get("alerts"), past=ask.get("alerts", "history", cursor=cursor, **looking.time))
    return Page("alerts.html", "Alerts", {"told": reply})
