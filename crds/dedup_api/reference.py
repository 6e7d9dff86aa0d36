"""Builds the generated pages of `docs/`: every field, every reason, every kind of record, every exit code. It does no
I/O."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from dedup_api import names
from dedup_api.changes import CHANGES, Change
from dedup_api.crd import build_structural_schema
from dedup_api.exits import EXITS, STOPPED_EARLY
from dedup_api.faults import MEANINGS
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import DedupJobStatus

_NOTE = "<!-- Generated from crds/dedup_api by `make generate`. Do not edit. -->\n\n"


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
    """`changes`: what an edit of each field does; adds a column if given."""
    rows = []
    for name, child in node.get("properties", {}).items():
        path = f"{prefix}.{name}"
        required = name in node.get("required", [])
        edit = "" if changes is None else f" {changes.get(path.removeprefix('spec.'), '')} |"
        meaning = child.get("description", "").replace("<", "\\<")  # otherwise Markdown takes <name> for an HTML tag
        rows.append(f"| `{path}` | {_type(child)} | {_default(child, required)} |{edit} {meaning} |")
        inner = child.get("items", child)
        rows += _rows(inner, f"{path}[]" if child.get("type") == "array" else path, changes)
    return rows


def build_reference_page() -> str:
    """docs/reference.md: one table for the fields of the spec and one for those of the status."""
    table = "| field | type | default | meaning |\n|---|---|---|---|\n"
    spec_table = "| field | type | default | an edit | meaning |\n|---|---|---|---|---|\n"
    spec = "\n".join(_rows(build_structural_schema(DedupJobSpec), "spec", CHANGES))
    status = "\n".join(_rows(build_structural_schema(DedupJobStatus), "status")).replace(" | required | ", " |  | ")
    return (
        f"{_NOTE}# Reference: {names.KIND} ({names.API_VERSION})\n\n`metadata.name` has at most "
        f"{names.MAX_NAME_LENGTH} characters and begins with a letter. `kubectl explain dedupjob.spec --recursive` "
        f"shows the same text.\n\n## spec\n\n{_EDITS}\n{spec_table}{spec}\n\n## status\n\n{table}{status}\n"
    )


_EDITS = """The column "an edit" says what an edit of the field does to a running job:

* **live**: the edit takes effect at once, and the driver keeps running.
* **restart**: the operator stops the driver after the current micro-batch and starts it with the new setting. The
  driver continues where it stopped. With a schedule, the next run has the new setting.
* **state**: the stored keys would not fit the new setting. If keys are stored, the driver continues with the old
  settings, and the condition Ready has the reason [ChangeBlocked](reasons.md#changeblocked) until you revert the edit.
  If no keys are stored, the operator restarts the driver.
* **until keys**: the operator restarts the driver with the new setting. Once keys are stored
  (status.checkpoint.keysStored), the API server refuses the edit.
* **fixed**: the API server refuses the edit, once the operator has created the claim.

An invalid edit never stops a running driver. Neither does an upgrade of the operator, of the chart, or of a default.

A duration is hours, minutes and seconds in this order, such as `24h`, `10m` or `1h30m`, without days and without fractions.
The API server cannot check time zones, datetime patterns and names of claims: look at `kubectl get dedupjob` after an
edit of these.
"""


_WAITS = "The operator does not start the driver again until you edit the spec, for example spec.restartNonce."
_RETRIES = "kubelet restarts the driver automatically, with growing pauses."


def build_reasons_page() -> str:
    """docs/reasons.md: one section per reason. A link to `reasons.md#<reason in lower case>` finds it."""
    sections = [
        f"## {reason}\n\n{_wrap(text.meaning)}{_describe_exit(reason)}\n\n{_wrap(f'**What to do:** {text.remedy}')}\n"
        for reason, text in EXPLANATIONS.items()
    ]
    return f"{_NOTE}{_REASONS}" + "\n".join(sections)


def _wrap(sentences: str) -> str:
    return fill(sentences, width=120, break_long_words=False, break_on_hyphens=False)


def _describe_exit(reason: Reason) -> str:
    found = [(code, meaning.permanent) for code, meanings in EXITS.items() for meaning in meanings if meaning.reason is reason]
    return "".join(f"\n\nExit code {int(code)}: {_WAITS if permanent else _RETRIES}" for code, permanent in found)


_REASONS = """# Reasons

A reason names the cause of a state. You find it in the column REASON of `kubectl get dedupjobs`, in the conditions and
events of `kubectl describe dedupjob <name>`, in `status.driver.lastExits`, and in the driver's termination message. The
condition's message gives the details of your case.

In the commands, `<name>` is the name of the DedupJob. Add `--namespace` if it is not in your current namespace.

"""

_RECORDS = """# Records: unique, duplicate, late, invalid

Every record that the driver reads is exactly one of these four. The metrics and `status.progress` count it under that
name:

    records in = unique + duplicates + late + invalid

| a record is | if | the driver |
|---|---|---|
| unique | it is the first with its key within the watermark | writes it to the sink |
| duplicate | its key is already stored | removes it |
| late | its event time is behind the watermark, so the key of an earlier copy may have been removed | follows `spec.onLate`: `Drop`, \
`Emit` or `DeadLetter` |
| invalid | it has no readable payload, key or event time | follows `spec.onInvalid`: `Fail`, `Drop` or `DeadLetter` |

A tombstone (a record without a value) follows `spec.onTombstone` if that is set: with `Pass` it is unique, otherwise it
is invalid.

With `Fail` the driver writes nothing of the batch, and the job stops with [InvalidRecord](reasons.md#invalidrecord),
which names the record. With `delivery: AtLeastOnce` the driver has already written the other records of the batch, and
writes them again when it repeats the batch. Logs, conditions and headers never contain any part of a record's payload.

## Dead letters

The driver writes a dead letter to `spec.deadLetter.topic`. With `delivery: ExactlyOnce` it does so in the Kafka
transaction of the batch in which it read the record, so a consumer with `isolation.level=read_committed` sees the dead
letter exactly once, even if the driver or a broker is killed. Key, value, headers and (with `ExactlyOnce`) timestamp
are those of the record. The driver adds these headers after the record's own headers, as text in UTF-8. If the record
already has a header with one of these names, that header gets `original-` before its name, so that nobody takes it
for one of the driver's:

| header | value |
|---|---|
| `dedup-reason` | a reason from the table below |
| `dedup-detail` | a sentence for people; its wording may change between versions |
| `dedup-source-topic`, `dedup-source-partition`, `dedup-source-offset` | where the driver read the record |
| `dedup-event-time` | the event time, RFC 3339 in UTC with milliseconds; missing if the record has none |
| `dedup-watermark` | the watermark of the batch, in the same form; missing before the first watermark |

A late record that the driver writes to the sink because of `spec.onLate: Emit` has the header `dedup-late: true`
instead.

## Reasons

The label `reason` of the metric `dedup_invalid_total`, the keys of `status.progress.invalidByReason`, and the header
`dedup-reason` use these names. A record with several faults gets the first of them.

| reason | meaning |
|---|---|
"""


def build_records_page() -> str:
    """docs/records.md: what the driver does with each record, and why a record is invalid."""
    return _NOTE + _RECORDS + "".join(f"| `{fault}` | {meaning} |\n" for fault, meaning in MEANINGS.items())


def build_exit_codes_page() -> str:
    """docs/exit-codes.md: the driver's exit codes."""
    rows = [
        f"| {int(code)} | [{meaning.reason}](reasons.md#{meaning.reason.lower()}) | {_WAITS if meaning.permanent else _RETRIES} |"
        for code, meanings in EXITS.items()
        for meaning in meanings
    ]
    return f"{_NOTE}{_EXIT_CODES}" + "\n".join(rows) + "\n"


_EXIT_CODES = f"""# Exit codes of the driver

The driver also writes the reason and a message, as JSON, to the termination message of its container.
`status.driver.lastExits` shows the last five exits.

| code | reason | what happens next |
|---|---|---|
| 0 | The driver was asked to stop, or it has completed a run of spec.trigger.availableNow. | |
| {STOPPED_EARLY} | The driver was asked to stop before it had completed a run of spec.trigger.availableNow. | The next run continues. |
"""
