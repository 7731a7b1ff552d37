"""What is said of a device or a site that fell silent or came back, and of a clock that is wrong: the conditions."""

from typing import Any

from pipeline.core.condition import Condition, Subject
from pipeline.core.devices.device import Device, HeartbeatPolicy
from pipeline.core.devices.sites import Site
from schemas.alert import AlertKind, Severity

SILENCE, SITE_SHARE, CLOCK = "silence_s", "site_share", "clock_skew_s"  # the metrics
SITE_SILENCE = "site_silence"  # of the alert that all partitions' shares are joined to
_FOR_EVER_MS = 366 * 86_400_000


def suspected(device: Device, partition: int, at_ms: int) -> Condition:
    """Pending: nobody is told. For how long is not the hold's to say: the log may stand still meanwhile."""
    return _silent(device, partition, at_ms, Severity.WARNING, _FOR_EVER_MS, None)


def lost(device: Device, partition: int, at_ms: int) -> Condition:
    """Firing, unless the whole site is out."""
    outage = site_subject(device.workspace, device.site).fingerprint if device.in_outage else None
    return _silent(device, partition, at_ms, Severity.CRITICAL, 0, outage)


def back(device: Device, partition: int, at_ms: int, settled: bool) -> Condition:
    """Heard again; `settled`: for as long as it takes to believe it."""
    return _well(
        device,
        partition,
        at_ms,
        keep_firing_ms=0 if settled else 3 * device.beat_ms,
        summary=f"{device.device_id} is heard again",
        evidence={"restarts": device.restarts, "boot_id": device.boot_id},
    )


def retired(device: Device, partition: int, at_ms: int) -> Condition:
    """Silent for so long that it is not watched any more: the end of its alert, until it beats again."""
    silent_ms = at_ms - device.last_ms
    return _well(
        device,
        partition,
        at_ms,
        keep_firing_ms=0,
        summary=f"{device.device_id} is taken to be retired and not watched any more: silent for {words(silent_ms)}",
        evidence={"retired": True, "last_heard_ms": device.last_ms},
    )


def site_subject(workspace: str, site: str) -> Subject:
    """A site as a whole; "" if the whole workspace is the site."""
    return Subject(AlertKind.HEARTBEAT, workspace, SITE_SILENCE, device_id=f"site:{site}"[:256])


def site_text(workspace: str, site: str, silent: int, watched: int) -> str:
    """What is said of a site that went."""
    count = f"{silent:,} of {watched:,} devices"
    return f"{count} of {site_name(workspace, site)} fell silent together: the site, its network or its gateway"


def site_name(workspace: str, site: str) -> str:
    """As people say it."""
    return f"site {site}" if site else f"workspace {workspace}"


def site_out(device: Device, site: Site, partition: int, at_ms: int) -> Condition:
    """Most devices of a site went together, as far as this partition has them: its share of an outage."""
    text = site_text(device.workspace, device.site, site.suspects + site.joined, site.watched)
    return _of_site(device, site, partition, at_ms, True, text)


def site_back(device: Device, site: Site, partition: int, at_ms: int) -> Condition:
    """Most of them are heard again."""
    still = f"{site.suspects + site.joined} of {site.watched}"
    where = site_name(device.workspace, device.site)
    text = f"{where} is back after {words(at_ms - site.out_since_ms)}; still silent: {still}"
    return _of_site(device, site, partition, at_ms, False, text)


def clock(device: Device, partition: int, at_ms: int, policy: HeartbeatPolicy) -> list[Condition]:
    """That its clock went wrong, or is right again; nothing while there is nothing new."""
    skew_ms, drift = device.skew_ms(), device.drift_ms_per_hour(at_ms)
    if skew_ms is None:
        return []
    # Right again only well inside the bounds: a clock at the bound would come and go.
    slack = 2 if device.skewed else 1
    wrong = abs(skew_ms) * slack > policy.skew_ms_max or abs(drift or 0) * slack > policy.drift_ms_per_hour_max
    if wrong == device.skewed and not (wrong and at_ms - device.skew_said_ms >= policy.remind_ms):
        return []
    device.skewed, device.skew_said_ms = wrong, at_ms
    ahead = "behind" if skew_ms > 0 else "ahead"
    summary = f"the clock of {device.device_id} is {words(abs(skew_ms))} {ahead}"
    if drift is not None and abs(drift) > policy.drift_ms_per_hour_max:
        summary += f" and drifts by {abs(drift) / 1000:.1f} s per hour"
    return [
        Condition(
            subject=Subject(AlertKind.HEARTBEAT, device.workspace, CLOCK, device_id=device.device_id),
            at_ms=at_ms,
            breached=wrong,
            value=skew_ms / 1000,
            expected=0.0,
            threshold=policy.skew_ms_max / 1000,
            severity=Severity.INFO,
            summary=summary if wrong else f"the clock of {device.device_id} is right again",
            labels=_labels(device, partition),
            evidence={"drift_ms_per_hour": drift},
        )
    ]


def words(ms: int) -> str:
    """A span as people say it: 45 s, 2 min 5 s, 3 h 20 min, 7 d."""
    s = round(ms / 1000)
    if s < 60:
        return f"{ms / 1000:.3g} s"
    for unit_s, unit, part_s, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if s >= unit_s:
            rest = s % unit_s // part_s
            return f"{s // unit_s} {unit}" + (f" {rest} {part}" if rest else "")
    raise AssertionError("a minute is a minute")


def _of_site(device: Device, site: Site, partition: int, at_ms: int, breached: bool, summary: str) -> Condition:
    share = f"site:{device.site}/{partition}"[:256]
    return Condition(
        subject=Subject(AlertKind.HEARTBEAT, device.workspace, SITE_SHARE, device_id=share),
        at_ms=at_ms,
        breached=breached,
        value=float(site.suspects + site.joined),
        expected=0.0,
        threshold=site.watched / 2,
        severity=Severity.CRITICAL,
        summary=summary,
        labels=_labels(device, partition),
        evidence={
            "devices_silent": site.suspects + site.joined,
            "devices_watched": site.watched,
            "beat_ms": device.beat_ms,
        },
        suppressed_by=site_subject(device.workspace, device.site).fingerprint if breached else None,
    )


def _subject(device: Device) -> Subject:
    return Subject(AlertKind.HEARTBEAT, device.workspace, SILENCE, device_id=device.device_id)


def _labels(device: Device, partition: int) -> dict[str, str]:
    labels = {"partition": str(partition)}
    return labels | ({"site": device.site} if device.site else {})


def _silent(
    device: Device, partition: int, at_ms: int, severity: Severity, hold_ms: int, suppressed_by: str | None
) -> Condition:
    silent_ms = at_ms - device.last_ms
    return Condition(
        subject=_subject(device),
        at_ms=at_ms,
        breached=True,
        value=silent_ms / 1000,
        expected=device.beat_ms / 1000,
        threshold=device.page_ms / 1000,
        severity=severity,
        hold_ms=hold_ms,
        keep_firing_ms=3 * device.beat_ms,
        summary=f"{device.device_id} has not been heard for {words(silent_ms)}; it beats every {words(device.beat_ms)}",
        labels=_labels(device, partition),
        evidence={
            "last_heard_ms": device.last_ms,
            "beat_ms": device.beat_ms,
            "interval_ms": device.interval_ms,
            "longest_recovered_gap_ms": max(device.longest_ms, device.longest_before_ms),
            "interruptions": device.interruptions,
            "restarts": device.restarts,
            "boot_id": device.boot_id,
        },
        suppressed_by=suppressed_by,
    )


def _well(
    device: Device, partition: int, at_ms: int, *, keep_firing_ms: int, summary: str, evidence: dict[str, Any]
) -> Condition:
    return Condition(
        subject=_subject(device),
        at_ms=at_ms,
        breached=False,
        value=(at_ms - device.last_ms) / 1000,
        expected=device.beat_ms / 1000,
        threshold=device.page_ms / 1000,
        severity=Severity.CRITICAL,
        keep_firing_ms=keep_firing_ms,
        summary=summary,
        labels=_labels(device, partition),
        evidence=evidence,
    )
