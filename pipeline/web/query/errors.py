"""What is answered where there is no good answer: {"reason", "message"} everywhere, whoever found the mistake."""

from typing import Any

import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException

from pipeline.core.asking.language import FilterError
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.edge.store.client import ClickHouseRefused, ClickHouseUnavailable
from pipeline.edge.store.questions import NotSetUpError, TooManyError, TooMuchError
from pipeline.web.asgi import Refused

log = structlog.get_logger()

AGAIN_S = 2.0
_REASONS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unknown_type"}
_MESSAGES = {404: "there is nothing at this path", 405: "this address does not take that method"}


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer to a request that failed."""
    refused = _refused(error)
    if refused is None:
        log.exception("request_failed", part="query", method=request.method, path=request.url.path, exc_info=error)
        refused = Refused(500, "internal", "this is our mistake; our log says more")
    headers = {name.decode(): value.decode() for name, value in refused.headers}
    return Response(refused.body, status_code=refused.status, headers=headers, media_type=MediaType.JSON)


def _refused(error: BaseException) -> Refused | None:
    """None: nobody thought of it."""
    if isinstance(error, BaseExceptionGroup):
        return _refused(error.exceptions[0])
    match error:
        case Refused():
            return error
        case FilterError():
            found = [{"position": m.position, "text": m.text, "why": m.why} for m in error.mistakes]
            return Refused(400, "bad_filter", str(error), more={"mistakes": found})
        case TooMuchError():
            return Refused(400, "too_much", f"{error}: ask for less time, or more narrowly")
        case TooManyError():
            return Refused(503, "busy", "too many questions wait already", retry_after_s=AGAIN_S)
        case NotSetUpError():
            return Refused(503, "not_set_up", str(error))
        case ClickHouseRefused():
            log.warning("question_refused", error=str(error))
            return Refused(500, "refused", "ClickHouse refuses the question; our log says more")
        case ClickHouseUnavailable():
            return Refused(503, "store_unavailable", "ClickHouse does not answer", retry_after_s=AGAIN_S)
        case KafkaUnavailable():
            return Refused(503, "kafka_unavailable", "Kafka does not answer", retry_after_s=AGAIN_S)
        case HTTPException() if error.status_code < 500:
            reason = _REASONS.get(error.status_code, "bad_request")
            message = _MESSAGES.get(error.status_code) or _details(error)
            allow = (error.headers or {}).get("allow", "") if error.status_code == 405 else ""
            return Refused(error.status_code, reason, message, allow=allow)
    return None


def _details(error: HTTPException) -> str:
    """What is wrong with which parameter."""
    extra = error.extra if isinstance(error.extra, list) else []
    told = [f"{one.get('key', 'body')}: {one.get('message', '')}" for one in extra if isinstance(one, dict)]
    return "; ".join(told) or error.detail.partition(" for ")[0]
