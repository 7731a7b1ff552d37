"""The operator's command line: every verb, and how errors end (one line on stderr, a documented exit code)."""

import logging
import sys

import typer
from rich.console import Console

from pipeline.cli import (
    alerts,
    audit,
    dead_letters,
    demo,
    detect,
    doctor,
    migrate,
    produce,
    rules,
    settings,
    topics,
    up,
)
from pipeline.cli.terminal import lines, prepare
from pipeline.config import ConfigError
from pipeline.core.ledger.names import ForeignMetadataError
from pipeline.edge.kafka.client import GroupInUseError, KafkaUnavailable
from pipeline.edge.local import EmbeddedError
from pipeline.edge.operator.alerts import NoSuchAlertError
from pipeline.edge.operator.dead_letters import NoSuchDeadLetterError
from pipeline.edge.operator.history import HistoryError
from pipeline.edge.operator.plots import PlotsError
from pipeline.edge.operator.rule_file import RuleFileError
from pipeline.edge.store.client import ClickHouseUnavailable
from pipeline.edge.store.migrations import MigrationError
from pipeline.trial.demo.digits import DigitsError
from pipeline.trial.load import PublishError

app = typer.Typer(
    name="inferwatch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Model monitoring: every inference an event, exact windows in ClickHouse.\n\n"
    "Exit codes: 0 ok, 1 what was asked about is not right, 2 wrong usage or settings, "
    "3 Kafka, ClickHouse or something else outside is not there.",
)

# What a person can do something about: one line on stderr instead of a traceback.
_EXIT_CODES: dict[type[Exception], int] = {
    ConfigError: 2,
    RuleFileError: 2,
    KafkaUnavailable: 3,
    ClickHouseUnavailable: 3,
    EmbeddedError: 3,
    PublishError: 3,
    MigrationError: 1,
    ForeignMetadataError: 1,
    GroupInUseError: 1,
    HistoryError: 2,
    PlotsError: 2,
    NoSuchAlertError: 1,
    NoSuchDeadLetterError: 1,
    DigitsError: 1,
}

app.command("up")(up.up)
app.command("demo")(demo.demo)
app.command("migrate")(migrate.migrate)
app.add_typer(topics.app, name="topics")
app.add_typer(rules.app, name="rules")
app.add_typer(alerts.app, name="alerts")
app.add_typer(detect.app, name="detect")
app.command("produce")(produce.produce)
app.command("audit")(audit.audit)
app.command("doctor")(doctor.doctor)
app.command("settings")(settings.settings)
app.add_typer(dead_letters.app, name="dead-letters")


def run() -> None:
    """Runs a verb and ends the process."""
    prepare()
    # What they would say is in our own line already, or is not for a person.
    for library in ("clickhouse_connect", "aiokafka"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        app()
    except tuple(_EXIT_CODES) as error:
        code = next(code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
        Console(stderr=True).print(
            f"inferwatch: {lines(str(error))}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(code)
