"""Builds the CustomResourceDefinition from the models.

pydantic's JSON schema has `$ref`, `anyOf` with null, and titles, which a structural schema must not have; this module
flattens them. It does no I/O: `crds/generate.py` writes the files.
"""

from __future__ import annotations

from typing import Any

from dedup_api import names
from dedup_api.model import ApiModel
from dedup_api.spec import OBJECT_RULES, DedupJobSpec
from dedup_api.status import DedupJobStatus
from dedup_api.unions import UNION_MEMBERS

_DROPPED = {"title", "$defs", "propertyNames"}


def build_structural_schema(model: type[ApiModel]) -> dict[str, Any]:
    """The model as a structural OpenAPI v3 schema: no references, no null, int64 integers."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _flatten(schema, schema.get("$defs", {}))


def _flatten(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    if "$ref" in node:
        merged.update(definitions[node["$ref"].rsplit("/", 1)[1]])
    alternatives = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    if node.get("x-kubernetes-int-or-string"):
        alternatives = []
    elif len(alternatives) == 1:
        merged.update(_flatten(alternatives[0], definitions))
    elif alternatives:
        raise ValueError(f"a structural schema cannot express a union of types; give the field one type: {node}")
    own = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
    rules = [*merged.get("x-kubernetes-validations", []), *own.get("x-kubernetes-validations", [])]
    merged.update(own)
    merged = {key: value for key, value in merged.items() if key not in _DROPPED}
    if rules:
        merged["x-kubernetes-validations"] = rules
    values = merged.pop("additionalProperties", None)
    if isinstance(values, dict):  # a map; `false` is a closed object, which a structural schema cannot express
        merged["additionalProperties"] = _flatten(values, definitions)
    if merged.get("default", ...) is None:
        del merged["default"]
    if "const" in merged:
        merged["enum"] = [merged.pop("const")]
    if merged.get("type") == "integer":
        merged["format"] = "int64"
    if "properties" in merged:
        merged["properties"] = {name: _flatten(child, definitions) for name, child in merged["properties"].items()}
    for union_member in merged.pop(UNION_MEMBERS, []):
        _drop_defaults(merged["properties"][union_member])
        merged.pop("default", None)
    if isinstance(merged.get("default"), dict):
        merged["default"] = _drop_nested_defaults(merged["default"], merged["properties"])
    if "items" in merged:
        merged["items"] = _flatten(merged["items"], definitions)
    return {key: value for key, value in merged.items() if (key, value) != ("properties", {})}  # see _column


def _drop_defaults(schema: dict[str, Any]) -> None:
    """See `unions`: the API server stores no default in a union."""
    schema.pop("default", None)
    for child in schema.get("properties", {}).values():
        _drop_defaults(child)


def _drop_nested_defaults(default: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what the defaults of the properties fill in."""
    kept: dict[str, Any] = {}
    for name, value in default.items():
        own = properties[name].get("default")
        if isinstance(value, dict):
            value = _drop_nested_defaults(value, properties[name].get("properties", {}))
        if value is not None and value != own:
            kept[name] = value
    return kept


def _column(name: str, path: str, kind: str = "string", description: str = "", *, wide: bool = False) -> dict[str, Any]:
    """The API server drops empty texts and empty maps, and the chart compares its CRD with the stored one."""
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if wide:
        column["priority"] = 1
    return column


PRINTER_COLUMNS = [
    _column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="True, False or Unknown"),
    _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', description="Cause of Ready; see docs/reasons.md"),
    _column("Topic", ".spec.source.topic", description="Source topic"),
    _column("Watermark", ".spec.watermark", description="How far apart two copies may be"),
    _column("Duplicates", ".status.progress.duplicates", "integer", "Duplicates removed so far"),
    _column("Lag", ".status.progress.lagRecords", "integer", "Records in the topic that are not read yet"),
    _column("Driver", ".status.driver.pod", description="The driver's pod", wide=True),
    _column("Restarts", ".status.driver.restarts", "integer", "Restarts of the driver's container", wide=True),
    _column("Rate", ".status.progress.inputRowsPerSecond", "integer", "Records per second in the last micro-batch", wide=True),
    _column("Late", ".status.progress.late", "integer", "Records behind the watermark so far", wide=True),
    _column("Invalid", ".status.progress.invalid", "integer", "Records without a readable payload, key or time so far", wide=True),
    _column("State", ".status.progress.stateRows", "integer", "Stored keys", wide=True),
    _column("Age", ".metadata.creationTimestamp", "date"),
    # The last one, because it is usually empty, and scripts count columns.
    _column("Warning", '.status.conditions[?(@.type=="Warning")].reason', description="See docs/reasons.md", wide=True),
]


def build_crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition."""
    spec, status = build_structural_schema(DedupJobSpec), build_structural_schema(DedupJobStatus)
    # A new object has no status. Without this default kstatus (Flux, Helm) would consider the object ready.
    status["default"] = {"observedGeneration": -1}
    schema = {
        "type": "object",
        "description": "A DedupJob reads a Kafka topic that may hold an event several times, and writes every event once.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Always streamdedup.dev/v1alpha1."},
            "kind": {"type": "string", "description": "Always DedupJob."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        **OBJECT_RULES,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": names.CRD_NAME},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": ["streaming"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": PRINTER_COLUMNS,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
