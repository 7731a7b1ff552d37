"""Requests of a workspace in a period and in the one before it: by model, and by model and class."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.asking.question import WORKSPACE, Question

SECONDS_MAX = 30
_PLAIN = "replaceRegexpOne(model_id, '/[0-9]+$', '')"  # a model's name without its version
_WHERE = f"""
    WHERE workspace = {WORKSPACE} AND event_time >= fromUnixTimestamp64Milli({{before:Int64}}, 'UTC')
        AND event_time < fromUnixTimestamp64Milli({{end:Int64}}, 'UTC') AND source != {{apart:String}}
        AND ({{models:String}} = '' OR has(splitByChar(',', {{models:String}}), toString(model_id))
            OR has(splitByChar(',', {{models:String}}), model_name))
"""
_NOW = "event_time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AS is_now"

_BY_CLASS = f"""
    SELECT model_name, class, is_now, count(), sum(length(ppm)), toUInt64(sum(arraySum(ppm))),
        quantileExactInclusiveArray(0.5)(ppm), count(latency_us), toUInt64(ifNull(sum(latency_us), 0)),
        arraySort(groupUniqArrayIf(toString(deployment), deployment != '')),
        arraySort(groupUniqArrayIf(toString(server_version), server_version != ''))
    FROM (
        SELECT {_PLAIN} AS model_name, {_NOW}, latency_us, deployment, server_version,
            arrayMap(c -> toString(c), `detections.class`) AS classes,
            arrayJoin(if(empty(classes), [''], arrayDistinct(classes))) AS class,
            arrayFilter((p, c) -> c = class, `detections.confidence_ppm`, classes) AS ppm
        FROM inferences {_WHERE} AND error = ''
    )
    GROUP BY model_name, class, is_now
"""
_BY_MODEL = f"""
    SELECT {_PLAIN} AS model_name, {_NOW}, countIf(error = ''), countIf(error != ''),
        sumIf(length(`detections.class`), error = ''),
        toUInt64(sumIf(arraySum(`detections.confidence_ppm`), error = '')),
        countIf(latency_us IS NOT NULL AND error = ''), toUInt64(ifNull(sumIf(latency_us, error = ''), 0))
    FROM inferences {_WHERE}
    GROUP BY model_name, is_now
"""


@dataclass(frozen=True, slots=True)
class RequestsAsked:
    """Which requests. Times in ms; the period before begins at `before_ms`. No models: all of them."""

    before_ms: int
    start_ms: int
    end_ms: int
    models: Sequence[str]  # names without versions, or model_ids; none holds a comma
    source_apart: str  # one that is left out

    def question(self, text: str) -> Question:
        """A question about them."""
        given: dict[str, str | float | int] = {
            "before": self.before_ms,
            "start": self.start_ms,
            "end": self.end_ms,
            "models": ",".join(self.models),
            "apart": self.source_apart,
        }
        return Question(text, given, seconds_max=SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class Sums:
    """Requests without an error, and what they add up to."""

    requests: int
    errors: int
    detections: int
    confidence_ppm: int
    timed: int  # requests whose latency is known
    latency_us: int


@dataclass(frozen=True, slots=True)
class ClassSums:
    """The same of the requests in which a class was seen, of that class; the class "": nothing was seen."""

    sums: Sums
    confidence_ppm_median: float
    deployments: Sequence[str]
    versions: Sequence[str]


def by_class(asked: RequestsAsked) -> Question:
    """For `read_classes`."""
    return asked.question(_BY_CLASS)


def by_model(asked: RequestsAsked) -> Question:
    """For `read_models`."""
    return asked.question(_BY_MODEL)


def read_classes(rows: Iterable[Sequence[Any]]) -> Mapping[tuple[str, str], tuple[ClassSums | None, ClassSums | None]]:
    """By model and class: in the period, and in the one before."""
    found: dict[tuple[str, str], list[ClassSums | None]] = {}
    for model, name, is_now, requests, detections, ppm, median, timed, us, deployments, versions in rows:
        sums = Sums(requests, 0, detections, ppm, timed, us)
        both = found.setdefault((model, name), [None, None])
        both[0 if is_now else 1] = ClassSums(sums, median if detections else 0.0, deployments, versions)
    return {key: (now, before) for key, (now, before) in found.items()}


def read_models(rows: Iterable[Sequence[Any]]) -> Mapping[str, tuple[Sums | None, Sums | None]]:
    """By model: in the period, and in the one before."""
    found: dict[str, list[Sums | None]] = {}
    for model, is_now, *numbers in rows:
        found.setdefault(model, [None, None])[0 if is_now else 1] = Sums(*map(int, numbers))
    return {model: (now, before) for model, (now, before) in found.items()}
