"""What we use of other packages without their promise. Each is pinned; here is what a new version must still have."""

import inspect
import tomllib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    """Every package that pyproject.toml pins to one version."""
    project = PYPROJECT["project"]
    required = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    return dict(requirement.split("==") for requirement in required if "==" in requirement)


@pytest.mark.parametrize(
    ("package", "pinned"),
    [
        ("faust-streaming", "0.15.3"),
        ("aiokafka", "0.14.0"),
        ("apprise", "2.2.0"),
        ("chdb-core", "26.9.0"),
        ("jgo", "3.2.0"),
        ("granian", "2.8.9"),
    ],
)
def test_the_version_looked_at_here_is_pinned_and_installed(package: str, pinned: str) -> None:
    assert pins()[package] == version(package) == pinned


def test_nothing_else_is_pinned_in_pyproject() -> None:
    known = ["aiokafka", "apprise", "chdb-core", "faust-streaming", "grafana-foundation-sdk", "granian", "jgo"]
    assert sorted(pins()) == known


def test_granian_can_be_embedded() -> None:
    """Its own documentation calls this experimental."""
    from granian.server.embed import Server

    assert {"serve", "stop"} <= set(dir(Server))


def test_aiokafkas_coordinator_holds_generation_member_id_and_commit_lock() -> None:
    from aiokafka.consumer.group_coordinator import GroupCoordinator

    source = inspect.getsource(GroupCoordinator.__init__)
    for line in (
        "self.generation = OffsetCommitRequest.DEFAULT_GENERATION_ID",
        "self.member_id = JoinGroupRequest.UNKNOWN_MEMBER_ID",
        "self._commit_lock = asyncio.Lock()",
    ):
        assert line in source


def test_aiokafkas_producer_asks_its_accumulator_how_long_a_batch_lives() -> None:
    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import MessageAccumulator

    assert "self._message_accumulator = MessageAccumulator(" in inspect.getsource(AIOKafkaProducer.__init__)
    assert "MessageBatch(tp, builder, self._batch_ttl," in inspect.getsource(MessageAccumulator._append_batch)
    assert "self._append_batch(builder, tp)" in inspect.getsource(MessageAccumulator.add_batch)


def test_aiokafkas_consumer_holds_its_coordinator() -> None:
    from aiokafka import AIOKafkaConsumer

    assert "self._coordinator = GroupCoordinator(" in inspect.getsource(AIOKafkaConsumer.start)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("_do_commit_offsets", ["self", "assignment", "offsets"]),
        ("ensure_coordinator_known", ["self"]),
        ("fetch_committed_offsets", ["self", "partitions"]),
    ],
)
def test_aiokafkas_coordinator_has_these_coroutines(method: str, parameters: list[str]) -> None:
    from aiokafka.consumer.group_coordinator import GroupCoordinator

    function = getattr(GroupCoordinator, method)
    assert inspect.iscoroutinefunction(function)
    assert list(inspect.signature(function).parameters) == parameters


def test_aiokafkas_commit_sends_the_generation_it_finds_and_raises_when_refused() -> None:
    """Our commit puts the generation of the assignment in place, under the lock, and reads the errors."""
    from aiokafka.consumer.group_coordinator import GroupCoordinator

    source = inspect.getsource(GroupCoordinator._do_commit_offsets)
    before_first_await = source[: source.index("await ")]
    assert before_first_await.index("self.generation,") < before_first_await.index("self.member_id,")
    for error in ("IllegalGenerationError", "UnknownMemberIdError"):
        assert f"Errors.{error}" in source
    assert "raise first_error" in source


def test_fausts_own_kafka_can_stay_off() -> None:
    from faust.app.base import App, BootStrategy

    assert BootStrategy.enable_kafka is True
    for method in (BootStrategy._should_enable_kafka_consumer, BootStrategy._should_enable_kafka_producer):
        assert "return self.enable_kafka" in inspect.getsource(method)
    assert App.BootStrategy is BootStrategy


def test_fausts_first_start_does_nothing_but_make_directories() -> None:
    """Ours does not call it."""
    from faust import App

    calls = [line.strip() for line in inspect.getsource(App.on_first_start).splitlines() if "self." in line]
    assert calls == ["self._create_directories()"]


def test_fausts_app_takes_services_and_makes_channels() -> None:
    from faust import App

    assert list(inspect.signature(App.service).parameters) == ["self", "cls"]
    assert "maxsize" in inspect.signature(App.channel).parameters


def test_fausts_channels_wait_until_the_flow_is_resumed() -> None:
    from faust import App
    from mode.utils.queues import FlowControlEvent

    assert list(inspect.signature(FlowControlEvent.resume).parameters) == ["self"]
    app = App("test", broker="kafka://unused")
    assert isinstance(app.flow_control, FlowControlEvent)
    assert not app.flow_control.is_active()


def test_chdbs_engine_is_one_module_beside_its_package() -> None:
    spec = find_spec("chdb")  # found, not imported: importing it loads pandas and pyarrow
    assert spec is not None
    [folder] = spec.submodule_search_locations or []
    assert (Path(folder) / "_chdb.abi3.so").is_file()


_SCHEMES = ("protocols", "secure_protocols")


def test_apprises_services_are_known_send_in_the_calling_thread_and_take_no_for_redirects() -> None:
    import apprise

    from pipeline.edge.notification.chat import SCHEMES

    known = {
        scheme for one in apprise.Apprise().details()["schemas"] for kind in _SCHEMES for scheme in one[kind] or []
    }
    assert known >= SCHEMES
    source = inspect.getsource(apprise.NotifyBase.notify)
    assert "Thread" not in source
    assert apprise.NotifyBase.redirects is True


def test_apprise_asks_its_tracker_who_has_a_message_and_discords_payload_passes_through_one_function() -> None:
    from apprise.plugins import base, discord

    assert "_delivery_tracker.get()" in inspect.getsource(base.NotifyBase.is_delivered)
    assert base._delivery_tracker.get() is None
    assert list(inspect.signature(discord.NotifyDiscord._send).parameters)[:2] == ["self", "payload"]
    assert 'payload["allow_mentions"]' in inspect.getsource(discord.NotifyDiscord.ping_payload)


def test_requests_takes_its_adapter_by_name_so_that_answers_can_be_listened_to() -> None:
    import requests

    assert "HTTPAdapter()" in inspect.getsource(requests.Session.__init__)
