"""The audit on real engines: clean where all is consistent, and every deliberate damage is found and named."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing

import orjson
import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.config import Settings, to_environ
from pipeline.core.audit import Check, Report
from pipeline.edge.audit.report import Audit
from pipeline.edge.clock import now_ms
from pipeline.trial.sent import Cell, SentRecords, Unknown, encode
from pipeline.trial.sent_audit import audit_of
from tests.integration import seeding
from tests.integration.outside import connect, kafka_says
from tests.integration.seeding import Seed

pytestmark = pytest.mark.integration

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def admin(world: Settings) -> Iterator[Client]:
    with closing(connect(world, "admin")) as client:
        yield client


@pytest.fixture
def seeded(world: Settings, admin: Client) -> Seed:
    return seeding.seed(world, admin, now_ms())


def audited(seed: Seed, *, wait_s: float = 0.0, sent: SentRecords | None = None) -> Report:
    return kafka_says(seed.settings, lambda b: audit_of(b, sent, wait_s=wait_s).run())


def wrong(report: Report) -> dict[str, Check]:
    return {check.name: check for check in report.checks if not check.ok}


def change(client: Client, sql: str) -> None:
    client.command(sql, settings={"mutations_sync": 2})


def test_the_audit_is_clean_where_all_is_consistent(seeded: Seed) -> None:
    report = audited(seeded)
    assert wrong(report) == {}
    compared = {check.name: check.compared for check in report.checks}
    assert compared["rows and dead letters"] == sum(seeded.end.values())
    assert compared["model_windows"] == len(list(seeding.model_windows(seeded.events)))
    assert compared["class_windows"] == len(list(seeding.class_windows(seeded.events)))
    assert min(compared[f"{kind}_windows{period}"] for kind in ("model", "class") for period in ("_1m", "_1h", "_1d"))


def test_a_lost_row_is_found_by_its_offset_and_by_its_windows(seeded: Seed, admin: Client) -> None:
    change(admin, "ALTER TABLE inferences DELETE WHERE kafka_partition = 1 AND kafka_offset IN (5, 6, 20)")
    found = wrong(audited(seeded))
    texts = [finding.text for finding in found["rows and dead letters"].findings]
    assert texts == [
        "partition 1 offsets 5..6: 2 records are missing",
        "partition 1 offsets 20..20: 1 records are missing",
    ]
    assert "inference_count" in found["model_windows"].findings[0].text


def test_a_doubled_row_is_found(seeded: Seed, admin: Client) -> None:
    seeding.insert(admin, "inferences", [row for row in seeded.events if row["kafka_offset"] == 7][:1])
    found = wrong(audited(seeded))
    assert [f.text for f in found["rows and dead letters"].findings] == ["partition 0 offset 7: recorded 2 times"]
    assert found["model_windows"].wrong == 1


def test_a_lost_and_a_doubled_row_do_not_cancel_out(seeded: Seed, admin: Client) -> None:
    seeding.insert(admin, "inferences", [row for row in seeded.events if row["kafka_offset"] == 7][:1])
    change(admin, "ALTER TABLE inferences DELETE WHERE kafka_partition = 0 AND kafka_offset = 8")
    assert wrong(audited(seeded))["rows and dead letters"].wrong == 2


def test_a_record_that_is_both_a_row_and_a_dead_letter_is_found(seeded: Seed, admin: Client) -> None:
    letter = seeding.dead_letter(seeded.topic, 2, 3, now_ms(), b"{")
    seeding.insert(admin, "dead_letters", [letter])
    found = wrong(audited(seeded))
    assert [f.text for f in found["rows and dead letters"].findings] == ["partition 2 offset 3: recorded 2 times"]


def test_a_lost_dead_letter_is_found(seeded: Seed, admin: Client) -> None:
    change(admin, "ALTER TABLE dead_letters DELETE WHERE kafka_partition = 0 AND kafka_offset = 9")
    assert set(wrong(audited(seeded))) == {"rows and dead letters"}


MODEL_COLUMNS = {
    "inference_count": 1,
    "error_count": 1,
    "empty_count": 1,
    "detection_count": 1,
    "latency_count": 1,
    "latency_us_sum": 1,
    "latency_us_max": 86_400_000_001,
    "latency_histogram": {35: 1},
    "confidence_ppm_sum": 1,
    "confidence_ppm_sum_sq": 1,
    "confidence_ppm_max": 1_000_001,
    "confidence_histogram": {100: 1},
}
CLASS_COLUMNS = (
    "detection_count",
    "inference_count",
    "confidence_ppm_sum",
    "confidence_ppm_sum_sq",
    "confidence_histogram",
)


def test_every_column_of_a_window_counts(seeded: Seed, admin: Client) -> None:
    windows = list(seeding.model_windows(seeded.events))
    for column, window in zip(MODEL_COLUMNS, windows, strict=False):
        damage(admin, "model_windows", window, ("workspace", "model_id", "device_id"), column)
    found = wrong(audited(seeded))
    # The rollups have not got what the 10-second table has too much.
    assert set(found) == {"model_windows", "model_windows_1m", "model_windows_1h", "model_windows_1d"}
    assert damaged_columns(found["model_windows"]) == set(MODEL_COLUMNS)
    assert found["model_windows"].wrong == len(MODEL_COLUMNS)
    starts = {finding.parts["window_start_ms"] for finding in found["model_windows"].findings}
    assert starts == {window["window_start"] * 1000 for window in windows[: len(MODEL_COLUMNS)]}


def test_every_column_of_a_class_window_counts(seeded: Seed, admin: Client) -> None:
    for column, window in zip(CLASS_COLUMNS, seeding.class_windows(seeded.events), strict=False):
        damage(admin, "class_windows", window, ("workspace", "model_id", "class"), column)
    found = wrong(audited(seeded))["class_windows"]
    assert (damaged_columns(found), found.wrong) == (set(CLASS_COLUMNS), len(CLASS_COLUMNS))


def test_a_wrong_rollup_is_found_by_itself(seeded: Seed, admin: Client) -> None:
    damaged = {"model_windows_1m": 60, "class_windows_1h": 3600, "model_windows_1d": 86_400}
    for rollup, seconds in damaged.items():
        of_class = rollup.startswith("class")
        windows = seeding.class_windows(seeded.events) if of_class else seeding.model_windows(seeded.events)
        window = next(windows)
        floored = {**window, "window_start": window["window_start"] // seconds * seconds}
        keys = ("workspace", "model_id", "class" if of_class else "device_id")
        damage(admin, rollup, floored, keys, "inference_count")
    found = wrong(audited(seeded))
    assert {name: check.wrong for name, check in found.items()} == dict.fromkeys(damaged, 1)


def test_a_missing_class_window_is_found(seeded: Seed, admin: Client) -> None:
    window = next(iter(seeding.class_windows(seeded.events)))
    where = f"class = '{window['class']}' AND model_id = '{window['model_id']}'"
    for suffix in ("", "_1m", "_1h", "_1d"):
        change(admin, f"ALTER TABLE class_windows{suffix} DELETE WHERE {where}")
    found = wrong(audited(seeded))
    assert set(found) == {"class_windows"}
    assert all(finding.text.endswith(": is missing") for finding in found["class_windows"].findings)


def test_a_window_without_rows_is_found(seeded: Seed, admin: Client) -> None:
    window = next(iter(seeding.model_windows(seeded.events)))
    seeding.insert(admin, "model_windows_in", [{**window, "device_id": "ghost"}])
    (finding,) = wrong(audited(seeded))["model_windows"].findings
    assert "device_id='ghost'" in finding.text
    assert finding.text.endswith("should not be there")


def test_a_difference_that_settles_while_we_wait_does_not_count(seeded: Seed, admin: Client) -> None:
    change(admin, "ALTER TABLE inferences DELETE WHERE kafka_partition = 1 AND kafka_offset = 4")
    lost = [row for row in seeded.events if (row["kafka_partition"], row["kafka_offset"]) == (1, 4)]
    told = []

    def mend(text: str) -> None:
        told.append(text)
        if "windows differ" in text and lost:
            seeding.insert(admin, "inferences", [lost.pop()])

    report = kafka_says(seeded.settings, lambda b: Audit(b, wait_s=20, tell=mend).run())
    assert any("windows differ" in text for text in told)
    assert set(wrong(report)) == {"rows and dead letters"}  # that was asked before


def test_records_that_nobody_has_recorded_are_missing(seeded: Seed) -> None:
    asyncio.run(seeding.publish(seeded.settings, seeded.topic, {0: [b"{}", b"{}"]}))
    found = wrong(audited(seeded))
    assert set(found) == {"events recorded"}
    assert found["events recorded"].wrong == 2


def test_windows_that_do_not_close_are_told(seeded: Seed) -> None:
    asyncio.run(seeding.publish(seeded.settings, seeded.topic, {5: [b"{}"]}))  # a partition without a name
    report = audited(seeded)
    assert {"windows closed", "events recorded"} == set(wrong(report))
    assert report.complete_through_ms == 0


def test_rows_of_an_earlier_topic_of_the_same_name_are_not_taken_for_doubles(seeded: Seed, admin: Client) -> None:
    before = [
        {**row, "kafka_time": row["kafka_time"] - 3600, "event_time": row["event_time"] - 3600}
        for row in seeded.events
        if row["kafka_offset"] < 5
    ]
    seeding.insert(admin, "inferences", before)
    seeding.insert(admin, "model_windows_in", list(seeding.model_windows(before)))
    seeding.insert(admin, "class_windows_in", list(seeding.class_windows(before)))
    assert wrong(audited(seeded)) == {}


def test_an_offset_that_holds_no_record_is_named_and_not_missing(seeded: Seed, admin: Client) -> None:
    settings, partition = seeded.settings, 2
    letters = asyncio.run(seeding.publish_in_transaction(settings, seeded.topic, partition, [b"{", b"["]))
    seeding.insert(admin, "dead_letters", [seeding.dead_letter(seeded.topic, *letter) for letter in letters])
    seeded.end[partition] += len(letters) + 1  # the transaction's end has an offset of its own
    asyncio.run(seeding.commit_names(seeded))
    report = audited(seeded)
    assert wrong(report) == {}
    (check,) = (check for check in report.checks if check.name == "rows and dead letters")
    assert "1 offsets hold no record" in check.summary


def test_an_event_that_clickhouse_no_longer_keeps_is_not_missing(seeded: Seed) -> None:
    old = json.dumps(
        {"event_id": "old", "event_time_ms": now_ms() - 2 * 86_400_000, "workspace": "acme", "model_id": "helmets/0"}
    ).encode()
    asyncio.run(seeding.publish(seeded.settings, seeded.topic, {0: [old]}))
    seeded.end[0] += 1
    asyncio.run(seeding.commit_names(seeded))
    assert set(wrong(audited(seeded))) == {"rows and dead letters"}
    seeded.settings = seeded.settings.model_copy(update={"ttl_inferences_days": 1})
    assert wrong(audited(seeded)) == {}


def sent_of(seed: Seed) -> SentRecords:
    cells = [
        Cell(
            w["workspace"], w["model_id"], w["device_id"], w["window_start"] * 1000, w["inference_count"],
            w["error_count"], w["empty_count"], w["detection_count"], w["latency_count"], w["latency_us_sum"],
            w["confidence_ppm_sum"],
        )
        for w in seeding.model_windows(seed.events)
    ]  # fmt: skip
    ranges = {p: [(0, 10), (10, end - 10)] for p, end in seed.end.items()}
    count = sum(seed.end.values())
    return SentRecords(seed.topic, 1, 0, 0, count, 0, {"not_json": len(seed.dead_letters)}, ranges, {}, cells, [])


def test_what_was_sent_is_there_exactly(seeded: Seed, admin: Client) -> None:
    sent = sent_of(seeded)
    other = {**seeded.events[0], "kafka_partition": 7}  # another producer's, in the same workspace
    seeding.insert(admin, "inferences", [other])
    checks = {check.name: check for check in audited(seeded, sent=sent).checks}
    assert [checks[f"sent: {what}"].ok for what in ("records", "dead letters", "sums")] == [True] * 3
    assert checks["sent: records"].compared == sum(seeded.end.values())


def test_a_lost_row_is_missing_from_what_was_sent(seeded: Seed, admin: Client) -> None:
    sent = sent_of(seeded)
    change(admin, "ALTER TABLE inferences DELETE WHERE kafka_partition = 1 AND kafka_offset = 5")
    change(admin, "ALTER TABLE dead_letters DELETE WHERE kafka_partition = 2 AND kafka_offset = 9")
    found = wrong(audited(seeded, sent=sent))
    assert found["sent: records"].wrong == 2
    assert found["sent: sums"].wrong == 1
    assert found["sent: dead letters"].wrong == 1


def test_records_without_a_known_offset_are_only_counted_from_below(seeded: Seed) -> None:
    whole = sent_of(seeded)
    ranges = {p: [(0, 10)] for p in seeded.end}
    rest = {p: end - 10 for p, end in seeded.end.items()}
    unknown = [Unknown(0, 3, {}, [])]
    sent = SentRecords(whole.topic, 1, 0, 0, whole.record_count, 0, whole.refused, ranges, rest, whole.cells, unknown)
    checks = {check.name: check for check in audited(seeded, sent=sent).checks}
    assert checks["sent: records"].ok
    assert checks["sent: sums"].ok
    assert "sent: dead letters" not in checks


@pytest.fixture
def command(world: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name, value in to_environ(world).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.stdout

    return run


def test_the_command_ends_with_0_where_all_is_well(
    seeded: Seed, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("sent") / "sent.json"
    file.write_bytes(encode(sent_of(seeded)))
    code, out = command("audit", "--wait", "1s", "--sent", str(file), "--json")
    report = orjson.loads(out)
    assert (code, report["ok"]) == (0, True)


def test_the_command_ends_with_1_and_says_what_is_wrong(seeded: Seed, admin: Client, command: Command) -> None:
    change(admin, "ALTER TABLE inferences DELETE WHERE kafka_partition = 1 AND kafka_offset = 5")
    code, out = command("audit", "--wait", "0s")
    assert code == 1
    assert "wrong" in out
    code, out = command("audit", "--wait", "0s", "--since", "1h", "--json")
    assert code == 1
    names = {check["name"] for check in json.loads(out)["checks"] if not check["ok"]}
    assert names == {"rows and dead letters", "model_windows"}  # the event had no detection


def damaged_columns(check: Check) -> set[str]:
    """The columns that the findings name, one each."""
    return {finding.text.split(": ", 1)[1].split(" is ")[0] for finding in check.findings}


def damage(client: Client, table: str, window: dict[str, object], keys: tuple[str, ...], column: str) -> None:
    """Adds a row that changes one column of one window."""
    amount = MODEL_COLUMNS[column]
    seeding.insert(client, table, [{**{key: window[key] for key in (*keys, "window_start")}, column: amount}])
