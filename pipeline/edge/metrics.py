"""Every metric of the workers, declared once. Labels come from closed sets; those known in advance start at 0.

docs/metrics.md is written from here (`make docs`).
"""

from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, Info, disable_created_metrics

from pipeline.core.isolation import Judged
from pipeline.core.ledger.chain import Verdict
from pipeline.core.notifying.episodes import Lost
from pipeline.core.notifying.recipients import RecipientKind
from pipeline.core.state import NoSnapshot
from schemas.alert import AlertKind, AlertState
from schemas.rejection import Reason
from schemas.tolerance import Adjustment

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, asked for by nobody

_DELAYS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600)
_INSERTS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

SENT, FAILED = "sent", "failed"  # outcomes of a notification
STATES = ("assigned", "restoring", "failed")  # of a partition

BUILD = Info("inferwatch_build", "Always 1: which version runs here.")
RECORDS = Counter("inferwatch_records_total", "Records that were read.", ["topic"])
BYTES = Counter("inferwatch_bytes_total", "Bytes of their values.", ["topic"])
REFUSED = Counter("inferwatch_refused_total", "Records that were refused, by reason.", ["topic", "reason"])
ADJUSTED = Counter(
    "inferwatch_adjusted_total", "What was adjusted in records that were accepted, by what it was.", ["topic", "reason"]
)
CUTS = Counter("inferwatch_cuts_total", "Cuts that were made.", ["topic"])
CUTS_REDONE = Counter("inferwatch_cuts_redone_total", "Named cuts that were made again.", ["topic"])
CUTS_FENCED = Counter("inferwatch_cuts_fenced_total", "Cuts dropped: the partition is not ours any more.", ["topic"])
COMMITS = Counter("inferwatch_commits_total", "OffsetCommit requests; each names one cut or more.")
COMMIT_SECONDS = Histogram("inferwatch_commit_seconds", "Time of an OffsetCommit.", buckets=_INSERTS)
CHAIN = Counter("inferwatch_chain_records_total", "Records of aggregates, by what the chain said.", ["verdict"])
INSERTS = Counter("inferwatch_inserts_total", "Attempts to insert, by outcome.", ["table", "outcome"])
INSERT_SECONDS = Histogram("inferwatch_insert_seconds", "Time of an attempt to insert.", ["table"], buckets=_INSERTS)
INSERT_ROWS = Counter("inferwatch_insert_rows_total", "Rows that were inserted.", ["table"])
ROWS_MENDED = Counter("inferwatch_rows_mended_total", "Rows missing after an unclean insert, put back.", ["table"])
LAG_RECORDS = Gauge("inferwatch_lag_records", "Records of a partition that are not taken yet.", ["topic", "partition"])
LAG_SECONDS = Gauge(
    "inferwatch_lag_seconds", "Age of the oldest record that waits; 0 when none does.", ["topic", "partition"]
)
PARTITIONS = Gauge("inferwatch_partitions", "Partitions of this worker, by state.", ["state"])
REBALANCES = Counter("inferwatch_rebalances_total", "Assignments that this worker was given.")
BUFFERED_BYTES = Gauge("inferwatch_buffered_bytes", "Raw records that wait in this worker.")
CLOSE_DELAY_SECONDS = Histogram(
    "inferwatch_window_close_delay_seconds", "From the end of a window to the record that holds it.", buckets=_DELAYS
)
EVENT_TO_ROW_SECONDS = Histogram(
    "inferwatch_event_to_row_seconds", "From an event's broker timestamp to its row.", buckets=_DELAYS
)

ALERTS = Counter("inferwatch_alerts_total", "Steps of alerts that were told.", ["kind", "state"])
NOT_JUDGED = Counter(
    "inferwatch_not_judged_total", "Models, rules, devices and notices that could not be judged.", ["what"]
)
NOTIFICATIONS = Counter(
    "inferwatch_notifications_total", "Notifications that were sent, or given up.", ["sender", "outcome"]
)
NOT_NOTIFIED = Counter(
    "inferwatch_not_notified_total", "Alerts, notifications and silences beyond what the notifier keeps.", ["what"]
)
NOTIFICATION_RETRIES = Counter(
    "inferwatch_notification_retries_total", "Attempts to notify that failed and are made again.", ["sender"]
)
SNAPSHOT_BYTES = Counter("inferwatch_snapshot_bytes_total", "State that was saved, compressed.")
SNAPSHOTS_NOT_USED = Counter(
    "inferwatch_snapshots_not_used_total", "Snapshots that could not be used; the log was read instead.", ["reason"]
)
SNAPSHOT_SECONDS = Histogram("inferwatch_snapshot_seconds", "From a state to its snapshot on Kafka.", buckets=_INSERTS)

HTTP_REQUESTS = Counter("inferwatch_http_requests_total", "Requests that were answered.", ["part", "status"])
LIVE_VIEWERS = Gauge("inferwatch_live_viewers", "Who watches the live stream of this process.")
INGESTED = Counter("inferwatch_ingested_total", "Records that came by HTTP and that Kafka has acknowledged.", ["kind"])
NOT_INGESTED = Counter("inferwatch_not_ingested_total", "Records that came by HTTP, not taken.", ["kind", "reason"])
INGEST_SECONDS = Histogram(
    "inferwatch_ingest_seconds", "From the last byte of a request to Kafka's acknowledgement.", buckets=_INSERTS
)
INGEST_BYTES = Gauge("inferwatch_ingest_bytes", "Bodies in memory that Kafka has not acknowledged yet.")
CLIENT_DROPPED = Counter("inferwatch_client_dropped_total", "Inferences that clients have dropped, as they say.")
INFERENCES_UNMATCHED = Counter(
    "inferwatch_inferences_unmatched_total", "Requests and responses (CloudEvents) whose other half did not come."
)
SPOOL_BYTES = Gauge("inferwatch_spool_bytes", "What waits on this process's disk for Kafka, compressed.")
SPOOL_SECONDS = Histogram("inferwatch_spool_seconds", "Until a request's records are on the disk.", buckets=_INSERTS)
SPOOL_REFUSED = Counter("inferwatch_spool_refused_total", "Requests that got a 503: no room on the disk for them.")
ROBOFLOW_LEFT_OUT = Counter(
    "inferwatch_roboflow_left_out_total", "What was left out of inferences of Roboflow servers, or put right.", ["what"]
)
FORWARDED = Counter("inferwatch_forwarded_total", "Pingbacks that were passed on, by outcome.", ["outcome"])

KINDS = ("events", "heartbeats", "metadata")  # what comes by HTTP
LEFT_OUT = ("prediction", "latency", "time", "details", "repeat", "inference")
FORWARD_OUTCOMES = ("sent", "failed", "dropped", "withheld")  # dropped: too many wait; withheld: it holds a key of ours
# Of the HTTP side; process: /metrics, /healthz, /readyz.
HTTP_PARTS = ("process", "ingest", "session", "console", "images", "vision", "roboflow", "query")
HTTP_REASONS = ("other_workspace", "unknown_type", "not_acknowledged")  # besides those of a record

BUILD.info({"version": version("inferwatch")})
for _part in HTTP_PARTS:
    HTTP_REQUESTS.labels(_part, "200")
for _what in LEFT_OUT:
    ROBOFLOW_LEFT_OUT.labels(_what)
for _how in FORWARD_OUTCOMES:
    FORWARDED.labels(_how)
for _kind_in in KINDS:
    INGESTED.labels(_kind_in)
    for _why_not in (*(reason.value for reason in Reason), *HTTP_REASONS):
        NOT_INGESTED.labels(_kind_in, _why_not)
for _verdict in Verdict:
    CHAIN.labels(_verdict.value)
for _lost in Lost:
    NOT_NOTIFIED.labels(_lost.value)
for _judged in Judged:
    NOT_JUDGED.labels(_judged.name.lower())
for _why in NoSnapshot:
    SNAPSHOTS_NOT_USED.labels(_why.name.lower())
for _state in STATES:
    PARTITIONS.labels(_state)
for _kind in AlertKind:
    for _step in AlertState:
        ALERTS.labels(_kind.value, _step.value)
for _sender in RecipientKind:
    NOTIFICATION_RETRIES.labels(_sender.value)
    for _outcome in (SENT, FAILED):
        NOTIFICATIONS.labels(_sender.value, _outcome)


def watch_topic(topic: str) -> None:
    """Starts a topic's counters at 0: a counter that never moved reads 0, not absent."""
    for counter in (RECORDS, BYTES, CUTS, CUTS_REDONE, CUTS_FENCED):
        counter.labels(topic)
    for reason in Reason:
        REFUSED.labels(topic, reason.value)
    for adjustment in Adjustment:
        ADJUSTED.labels(topic, adjustment.value)


def watch_tables(inserted: Iterable[str], mended: Iterable[str], outcomes: Iterable[str]) -> None:
    """The same for tables: those that rows are sent to, and those in which some may be missing."""
    outcomes = tuple(outcomes)
    for table in inserted:
        INSERT_SECONDS.labels(table)
        INSERT_ROWS.labels(table)
        for outcome in outcomes:
            INSERTS.labels(table, outcome)
    for table in mended:
        ROWS_MENDED.labels(table)
