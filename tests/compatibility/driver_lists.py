"""Lists of the driver and of its image: what it writes to Kafka, to the volume and to its log, and how it is started."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from unittest import mock

from compatibility.lists import List, list_keys, list_metrics
from compatibility.operator_lists import ROOT, SAMPLES
from dedup_api.job_config import JobConfig, build_job_config
from dedup_api.spec import DedupJobSpec, Delivery
from dedup_job.checkpoint.attempt_file import AttemptFile
from dedup_job.checkpoint.identity_file import Identity, IdentityFile
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.lock import take_lock
from dedup_job.checkpoint.lost_records import LostRange, LostRecords, LostRecordsFile
from dedup_job.checkpoint.output_file import OutputFile, create_output
from dedup_job.checkpoint.totals import StoreTimes, Totals, TotalsFile
from dedup_job.logs import JsonFormatter
from dedup_job.main import read_arguments
from dedup_job.report.metrics import Metrics
from dedup_job.report.phases import build_phases
from dedup_job.report.server import Pages
from dedup_job.report.status import State
from dedup_job.sink import kafka_opening
from dedup_job.sink.marker import Marker
from dedup_job.stream.routing import DEAD_LETTER_HEADERS, LATE_HEADER

PACKAGE = ROOT / "job" / "dedup_job"


def _build_config(name: str) -> JobConfig:
    return build_job_config("shop", name, DedupJobSpec.model_validate(SAMPLES[name]))


def _list_volume() -> List:
    """Every file that the driver itself writes to a new volume, and the keys of those that hold JSON. Spark's own files are Spark's."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lock = take_lock(root, lambda pause: False)
        assert lock is not None
        lock.close()
        layout = CheckpointLayout(root, 1)
        AttemptFile(layout).increment()
        IdentityFile(layout).write(Identity(config=_build_config("schedule"), topic_id="id", spark_version="4.2.0"))
        OutputFile(layout).write(create_output(Delivery.EXACTLY_ONCE))
        TotalsFile(layout).write(Totals(batch=1))
        lost = LostRecords(total=1, ranges=[LostRange(batch=1, partition=0, start=0, end=1)])
        LostRecordsFile(layout).write(lost)
        found: List = {}
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            found[name] = "folder" if path.is_dir() else "file"
            if path.suffix == ".json":
                found.update(list_keys(json.loads(path.read_text()), f"{name}:"))
        return found


def _list_metrics() -> List:
    metrics = Metrics()
    metrics.set_watermark(1)  # a metric that only exists when there is a watermark
    return list_metrics(metrics.registry)


def _list_label_values() -> List:
    samples = [sample for family in Metrics().registry.collect() for sample in family.samples]
    known = {f"{sample.name} {name}={value}": "" for sample in samples for name, value in sample.labels.items() if name != "le"}
    buckets = [sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")]
    return {
        **known,
        **{f"bucket {bucket}": "" for bucket in buckets},
        **{f"phase={phase}": "" for phase in build_phases({})},
        **{f"operation={operation}": "" for operation in asdict(StoreTimes())},
    }


def _list_kafka_names() -> List:
    found: List = {}
    for name in ("stream", "schedule"):
        config = _build_config(name)
        with (
            mock.patch.object(kafka_opening, "Transactions") as made,
            mock.patch.object(kafka_opening, "fetch_batch_bytes", return_value=1),
        ):
            kafka_opening.build_transactions(mock.MagicMock(), config, "<output>")
        given = [*made.call_args.args, *made.call_args.kwargs.values()]
        (transactional_id,) = [value for value in given if isinstance(value, str) and value.endswith("<output>") and value != "<output>"]
        found |= {
            f"transactional id of {name}": transactional_id,
            f"progress topic of {name}": config.progress_topic,
            f"consumer group of {name}": config.consumer_group,
        }
    return found


def _list_log_keys() -> List:
    """Keys that every line has, and those that single messages add with `extra={"fields": ...}`."""
    record = JsonFormatter().format(_build_record())
    found = {key: "in every line" for key in json.loads(record) if key != "traceback"}
    found["traceback"] = "with an exception"
    for path in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
                found.update({key: "in some lines" for key in _find_fields(function) if key not in found})
    return found


def _build_record() -> logging.LogRecord:
    try:
        raise ValueError
    except ValueError:
        return logging.LogRecord("dedup_job", logging.INFO, "", 0, "a message", (), sys.exc_info())


def _find_fields(function: ast.AST) -> Iterator[str]:
    dictionaries: dict[str, list[ast.Dict]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict):
            dictionaries.setdefault(node.targets[0].id, []).append(node.value)
    for node in ast.walk(function):
        if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
            (fields,) = node.value.values
            used = [fields] if isinstance(fields, ast.Dict) else dictionaries.get(fields.id, []) if isinstance(fields, ast.Name) else []
            yield from (str(key.value) for found in used for key in found.keys if isinstance(key, ast.Constant))


def _list_jvm_log_keys() -> List:
    (properties,) = PACKAGE.rglob("log4j2.properties")
    template = re.search(r"eventTemplate = (.*)", properties.read_text())
    assert template is not None
    return dict.fromkeys(json.loads(template[1]), "")


def _list_http_paths() -> List:
    pages = Pages(State(), Metrics(), timedelta(minutes=10))
    offered = pages.read("/")[2].decode().split()
    return {path: pages.read(path)[1] for path in offered if pages.read(path)[0] != 404}


def _list_flags() -> List:
    return {f"--{name.replace('_', '-')}": f"default: {value}" for name, value in vars(read_arguments([])).items()}


def _list_environment() -> List:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch("DEDUP_[A-Z_]+|JAVA_HOME", node.value):
                found[node.value] = ""
    return found


def _list_image(dockerfile: Path) -> List:
    """What a user or a manifest relies on: command, user, port, and the names of the variables that the image sets."""
    content = dockerfile.read_text().replace("\\\n", " ")
    found = dict(re.findall(r"^(ENTRYPOINT|USER|EXPOSE) (.*)$", content, re.MULTILINE))
    settings = re.findall(r"^ENV (.*)$", content, re.MULTILINE)
    return {**found, **{f"ENV {name}": "" for setting in settings for name in re.findall(r"(\w+)=", setting)}}


COLLECTORS: dict[str, Callable[[], List]] = {
    "files on the volume": _list_volume,
    "metrics of the driver": _list_metrics,
    "label values of the driver's metrics": _list_label_values,
    "headers of dead letters and late records": lambda: dict.fromkeys((LATE_HEADER, *DEAD_LETTER_HEADERS), ""),
    "keys of the marker": lambda: list_keys(json.loads(Marker(batch=1, entry="v1", attempt=1, rows=1).model_dump_json(by_alias=True))),
    "names at the brokers": _list_kafka_names,
    "keys of the driver's log": _list_log_keys,
    "keys of the JVM's log": _list_jvm_log_keys,
    "paths of the driver's HTTP port": _list_http_paths,
    "flags of the driver": _list_flags,
    "environment variables of the driver": _list_environment,
    "image of the driver": lambda: _list_image(ROOT / "job" / "Dockerfile"),
    "image of the operator": lambda: _list_image(ROOT / "operator" / "Dockerfile"),
}
