"""The generated pages: every field, every reason, every exit code. Pure text from the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dedup_api import names
from dedup_api.changes import CHANGES, Change
from dedup_api.crd import build_structural_schema
from dedup_api.exits import EXITS, STOPPED_EARLY
from dedup_api.faults import MEANINGS
from dedup_api.reasons import EXPLANATIONS
from dedup_api.spec import DedupJobSpec
from dedup_api.status import DedupJobStatus

_NOTE = "<!-- Made from crds/dedup_api by `make generate`; do not edit. -->\n\n"


def _type(node: dict[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if node.get("type") == "array":
        return f"list of {node['items'].get('type', 'object')}"
    return str(node.get("type", "object"))


def _default(node: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = node.get("default")
    if default is None or isinstance(default, dict | list):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _rows(node: dict[str, Any], prefix: str, changes: Mapping[str, Change] | None = None) -> list[str]:
    """`changes`: what an edit of each field does, for a column of its own."""
    rows = []
    for name, child in node.get("properties", {}).items():
        path = f"{prefix}.{name}"
        required = name in node.get("required", [])
        edit = "" if changes is None else f" {changes.get(path.removeprefix('spec.'), '')} |"
        rows.append(f"| `{path}` | {_type(child)} | {_default(child, required)} |{edit} {child.get('description', '')} |")
        inner = child.get("items", child)
        rows += _rows(inner, f"{path}[]" if child.get("type") == "array" else path, changes)
    return rows


def build_reference_page() -> str:
    """docs/reference.md: a table of the spec's fields and one of the status'."""
    table = "| field | type | default | meaning |\n|---|---|---|---|\n"
    spec_table = "| field | type | default | an edit | meaning |\n|---|---|---|---|---|\n"
    spec = "\n".join(_rows(build_structural_schema(DedupJobSpec), "spec", CHANGES))
    status = "\n".join(_rows(build_structural_schema(DedupJobStatus), "status")).replace(" | required | ", " |  | ")
    return (
        f"{_NOTE}# Reference: {names.KIND} ({names.API_VERSION})\n\n"
        f"`metadata.name` has at most {names.MAX_NAME_LENGTH} characters and begins with a letter. "
        "The same text is in `kubectl explain dedupjob.spec --recursive`.\n\n"
        f"## spec\n\n{_EDITS}\n{spec_table}{spec}\n\n## status\n\n{table}{status}\n"
    )


_EDITS = """What an edit of a field does to a job that runs:

* **live**: takes effect at once; the driver is left alone.
* **restart**: the driver stops after the batch it is in, and goes on from there with the new setting. A schedule's next run has it.
* **state**: does not fit the keys that are stored. Once there are any, the driver goes on with the settings it had, and the job says
  [ChangeBlocked](reasons.md#changeblocked) until the edit is taken back; before, it restarts.
* **fixed**: refused by the API server.

An invalid edit never stops a driver that runs, nor does an upgrade of the operator, of the chart or of a default.
"""


def build_reasons_page() -> str:
    """docs/reasons.md: a section for every reason, so that a link to `#reason` in lower case works."""
    sections = [f"## {reason}\n\n{text.meaning}\n\n**What to do:** {text.remedy}\n" for reason, text in EXPLANATIONS.items()]
    return (
        f"{_NOTE}# Reasons\n\nThe column REASON of `kubectl get dedupjobs`, the reasons of conditions and events, and the reason in "
        "a driver's "
        "termination message are the words below.\n\n" + "\n".join(sections)
    )


_RECORDS = """# Records: unique, duplicate, late, invalid

Every record that the job reads is exactly one of these, and is counted as that in the metrics and in `status.progress`:

    records in = unique + duplicates + late + invalid

| a record is | when | then |
|---|---|---|
| unique | it is the first of its key within the watermark | it goes to the sink |
| duplicate | its key is remembered | it is left out |
| late | its event time is behind the watermark, so that a copy of it may be forgotten | `spec.onLate`: `Drop`, `Emit` or `DeadLetter` |
| invalid | it has no readable payload, key or event time | `spec.onInvalid`: `Fail`, `Drop` or `DeadLetter` |

With `Fail` nothing of the batch is written, and the job stops with [InvalidRecord](reasons.md#invalidrecord), which names the record.
(With `delivery: AtLeastOnce` the batch's other records are written before, and come again when it is tried again.) What stands in logs,
conditions and headers about a record never holds anything of its payload.

## Dead letters

A record goes to `spec.deadLetter.topic` in the same Kafka transaction as the batch it was read in, so it is there once, whatever dies.
Key, value, headers and (with `ExactlyOnce`) timestamp are those of the record. Behind its own headers stand, as texts in UTF-8:

| header | |
|---|---|
| `dedup-reason` | a word of the table below |
| `dedup-detail` | a sentence for people; may change from version to version |
| `dedup-source-topic`, `dedup-source-partition`, `dedup-source-offset` | where the record was read |
| `dedup-event-time` | RFC 3339 in UTC with milliseconds; only where the record has one |
| `dedup-watermark` | what records of this batch were late by, in the same form; only once there is one |

A late record that `spec.onLate: Emit` passes to the sink has the header `dedup-late: true` instead.

## Reasons

The label `reason` of `dedup_invalid_total`, the names in `status.progress.invalidByReason`, and the header `dedup-reason`. A record
with several faults has the first of them.

| reason | meaning |
|---|---|
"""


def build_records_page() -> str:
    """docs/records.md: what becomes of records, and why one is invalid."""
    return _NOTE + _RECORDS + "".join(f"| `{fault}` | {meaning} |\n" for fault, meaning in MEANINGS.items())


def build_exit_codes_page() -> str:
    """docs/exit-codes.md: the driver's exit codes."""
    rows = [
        f"| {int(code)} | [{meaning.reason}](reasons.md#{meaning.reason.lower()}) | "
        f"{'waits for a change of the spec or of restartNonce' if meaning.permanent else 'started again'} |"
        for code, meanings in EXITS.items()
        for meaning in meanings
    ]
    return (
        f"{_NOTE}# Exit codes of the driver\n\nThe reason and a message stand as JSON in the container's termination message.\n\n"
        "| code | reason | then |\n|---|---|---|\n"
        "| 0 | stopped as asked, or with spec.trigger.availableNow: all was read that was there at the start | |\n"
        f"| {STOPPED_EARLY} | with spec.trigger.availableNow: stopped as asked, before all was read | goes on in the next run |\n"
        + "\n".join(rows)
        + "\n"
    )
