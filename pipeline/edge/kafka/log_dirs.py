"""How full the disks of the brokers are (DescribeLogDirs, of Kafka 3.3 and newer), which aiokafka does not ask."""

from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

_KEY, _VERSION = 35, 4


@dataclass(frozen=True, slots=True)
class LogDir:
    """One directory of a broker, and the disk that it is on, in bytes."""

    broker: int
    path: str
    free: int
    total: int
    failed: bool  # the broker has given it up, as it does when the disk is full


class _Answer(Response):  # type: ignore[misc]
    API_KEY = _KEY
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "results",
            CompactArray(
                ("error_code", Int16),
                ("log_dir", CompactString("utf-8")),
                (
                    "topics",
                    CompactArray(
                        ("name", CompactString("utf-8")),
                        ("partitions", CompactArray(Int64)),  # never any: none was asked for
                        ("tags", TaggedFields),
                    ),
                ),
                ("total_bytes", Int64),
                ("usable_bytes", Int64),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Question4(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _KEY
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(("topics", CompactArray(Int32)), ("tags", TaggedFields))


class _Question(Request[_Question4]):  # type: ignore[misc]
    API_KEY = _KEY

    def build(self, request_struct_class: type[_Question4]) -> _Question4:
        return request_struct_class([], {})  # of no topic: the disks are told all the same


async def log_dirs(client: AIOKafkaAdminClient) -> list[LogDir]:
    """Of all brokers; those that are too old to tell are left out. Raises what aiokafka raises."""
    found: list[LogDir] = []
    for broker in (await client.describe_cluster())["brokers"]:
        try:
            answer = await client._send_request_to_node(broker["node_id"], _Question())
        except (IncompatibleBrokerVersion, NotImplementedError):
            continue
        for one in answer.to_object()["results"]:
            sizes = one["usable_bytes"], one["total_bytes"]
            found.append(LogDir(broker["node_id"], one["log_dir"], *sizes, failed=bool(one["error_code"])))
    return found
