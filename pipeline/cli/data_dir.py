"""Where a verb finds Kafka and ClickHouse: --data-dir, else what the settings say, else ./inferwatch-data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # a list of verbs needs neither
    from pipeline.config import Settings

DEFAULT = Path("inferwatch-data")
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="ask what inferwatch up runs in this directory; default: what the settings say, else "
        f"./{DEFAULT} while it runs there",
    ),
]
_ADDRESSES = {"kafka_bootstrap", "clickhouse_url"}


def settings_for_verb(data_dir: Path | None) -> "Settings":
    """The settings of a verb. Raises EmbeddedError when nothing runs in the directory that was named."""
    from pipeline import config
    from pipeline.edge.local.layout import is_up, running_settings

    base = config.load()
    if data_dir is not None:
        return running_settings(data_dir, base)
    if not _ADDRESSES & base.model_fields_set and is_up(DEFAULT):
        return running_settings(DEFAULT, base)
    return base
