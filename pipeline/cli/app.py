"""The operator's command line: every verb, and how errors end (one line on stderr, a documented exit code).

A verb's module is imported when the verb is called: `inferwatch --help` reads this table only.
"""

import logging
import sys
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.cli.terminal import lines, prepare


class Verb(NamedTuple):
    """Where a verb is, and its line in the list of all."""

    place: str  # in pipeline.cli: module, and its function or its Typer
    help: str


VERBS = {
    "up": Verb("up:up", "Starts Kafka, ClickHouse and the workers here, and keeps them running until Ctrl-C."),
    "web": Verb("web:web", "Take in events over HTTP, and answer questions, until it is told to stop (SIGTERM)."),
    "keys": Verb("keys:app", "API keys: create, list, rotate, revoke."),
    "users": Verb("users:app", "People: create, list, give roles, set a password, sign out, delete."),
    "demo": Verb(
        "demo:demo",
        "Start everything, run a real classifier on real images, watch its confidence drop, and prove the counts.",
    ),
    "migrate": Verb(
        "migrate:migrate",
        "Create or update the tables and views in ClickHouse. Safe to run again, and by two at once.",
    ),
    "topics": Verb("topics:app", "Kafka topics: create, list with lag, grow, rewind, accept a gap."),
    "rules": Verb("rules:app", "Alert rules: list, apply from YAML, delete, test against history."),
    "alerts": Verb("alerts:app", "Alerts: list, acknowledge, accept, resolve, silence, follow."),
    "detect": Verb("detect:app", "Detection over history."),
    "produce": Verb(
        "produce:produce",
        "Send realistic detection events to Kafka, until the end that was asked for, or Ctrl-C.",
    ),
    "import": Verb("carried:import_", "Bring in the events of a client's spool that was carried here, each once."),
    "audit": Verb(
        "audit:audit",
        "Prove that every event is recorded once and every complete window is exact, in Kafka and ClickHouse.",
    ),
    "doctor": Verb(
        "doctor:doctor",
        "Check settings, Kafka, topics, ClickHouse, tables, users, workers and clocks; say what to do.",
    ),
    "settings": Verb(
        "settings:settings",
        "Show every setting: what it is here, its default, what it means. Secrets are not shown.",
    ),
    "dead-letters": Verb("dead_letters:app", "Refused records: list, show, send again."),
}

# What a person can do something about: one line on stderr instead of a traceback.
EXIT_CODES = {
    "pipeline.config.loading.ConfigError": 2,
    "pipeline.edge.operator.rule_file.RuleFileError": 2,
    "pipeline.edge.operator.history.HistoryError": 2,
    "pipeline.edge.operator.plots.PlotsError": 2,
    "pipeline.edge.images.store.ImagesUnavailable": 2,  # at the start: the setting means nothing
    "pipeline.edge.kafka.connection.KafkaUnavailable": 3,
    "pipeline.edge.store.client.ClickHouseUnavailable": 3,
    "pipeline.edge.local.EmbeddedError": 3,
    "pipeline.trial.load.PublishError": 3,
    "pipeline.edge.store.migrations.MigrationError": 1,
    "pipeline.core.ledger.names.ForeignMetadataError": 1,
    "pipeline.edge.kafka.client.GroupInUseError": 1,
    "pipeline.core.alerting.told.NoSuchAlertError": 1,
    "pipeline.edge.operator.dead_letters.NoSuchDeadLetterError": 1,
    "pipeline.trial.demo.digits.DigitsError": 1,
    "pipeline.web.server.PortError": 3,
    "pipeline.web.access.admin.NoSuchKeyError": 1,
    "pipeline.web.access.admin.NoSuchUserError": 1,
}

_OPTIONS: dict[str, Any] = {
    "no_args_is_help": True,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "rich",
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class Deferred(TyperCommand):
    """A verb by its name and its line, until it is called."""

    def load(self) -> Any:
        """The verb itself."""
        assert self.name is not None
        module, _, name = VERBS[self.name].place.partition(":")
        found = getattr(import_module(f"pipeline.cli.{module}"), name)
        outer = typer.Typer(**_OPTIONS)
        outer.callback()(_several)
        if isinstance(found, typer.Typer):
            outer.add_typer(found, name=self.name)
        else:
            outer.command(self.name)(found)
        return typer.main.get_group(outer).commands[self.name]

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Where its arguments are read."""
        return self.load().make_context(*args, **kwargs)


class AllVerbs(TyperGroup):
    """Those of the table, and those that were added to the app."""

    def __init__(self, *, commands: dict[str, Any], **options: Any) -> None:
        deferred = {name: Deferred(name, callback=None, help=verb.help) for name, verb in VERBS.items()}
        super().__init__(commands=deferred | commands, **options)


app = typer.Typer(
    name="inferwatch",
    cls=AllVerbs,
    help="Model monitoring: every inference an event, exact windows in ClickHouse.\n\n"
    "Exit codes: 0 ok, 1 what was asked about is not right, 2 wrong usage or settings, "
    "3 Kafka, ClickHouse or something else outside is not there.",
    **_OPTIONS,
)


@app.callback()
def _several() -> None:
    pass


def run() -> None:
    """Runs a verb and ends the process."""
    prepare()
    # What they would say is in our own line already, or is not for a person.
    for library in ("clickhouse_connect", "aiokafka"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        app()
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        from rich.console import Console

        text = f"inferwatch: {lines(str(error))}"
        Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(code)


def exit_code(error: Exception) -> int | None:
    """None: of this error nobody has thought."""
    kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
    return next((EXIT_CODES[kind] for kind in kinds if kind in EXIT_CODES), None)
