"""What Alertmanager knows an alert by: other labels are another alert to it."""

from schemas.alert import AlertEvent


def alertmanager_labels(event: AlertEvent) -> dict[str, str]:
    """What Alertmanager knows the alert by. Nothing that changes within an episode but its severity."""
    labels = {name: value for name, value in event.labels.items() if value}
    fields = {
        "alertname": event.rule_id or event.metric,
        "kind": event.kind.value,
        "metric": event.metric,
        "severity": event.severity.value,
        "workspace": event.workspace,
        "model_id": event.model_id,
        "device_id": event.device_id,
        "class": event.class_name,
        "rule_id": event.rule_id,
    }
    return labels | {name: value for name, value in fields.items() if value}
