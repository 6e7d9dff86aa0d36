"""Points in time as the API writes them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build_rfc3339(seconds: float) -> str:
    """`seconds` since the epoch; the text has whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def build_event_time(milliseconds: int) -> str:
    """`milliseconds` since the epoch; the text has milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
