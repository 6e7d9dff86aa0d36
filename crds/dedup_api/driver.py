"""`spec.driver`: CPU and memory of the driver's pod."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from dedup_api.field_rules import quantity_rules
from dedup_api.model import ApiModel, rules

MINIMUM_MEMORY = "1Gi"
"""With less memory the JVM, RocksDB and Python do not fit together, and the kernel kills the driver in its first
batches."""


class ResourceRequests(ApiModel):
    """What the scheduler reserves for the driver."""

    cpu: str | int = Field(
        "500m",
        description="CPU that the scheduler reserves. Quantity of cores; default 500m.",
        json_schema_extra=quantity_rules("spec.driver.resources.requests.cpu"),
    )
    memory: str | int | None = Field(
        None,
        description="Memory that the scheduler reserves. Quantity of bytes; spec.driver.resources.limits.memory when absent.",
        json_schema_extra=quantity_rules("spec.driver.resources.requests.memory"),
    )


class ResourceLimits(ApiModel):
    """The maximum that the driver may use."""

    cpu: str | int = Field(
        "2",
        description="Maximum CPU. Rounded up, it is also the default of spec.parallelism. Quantity of cores; default 2.",
        json_schema_extra=quantity_rules("spec.driver.resources.limits.cpu"),
    )
    memory: str | int = Field(
        "2Gi",
        description="Maximum memory. The driver divides it between the JVM, RocksDB and Python. Quantity of bytes; "
        f"default 2Gi, at least {MINIMUM_MEMORY}.",
        json_schema_extra=quantity_rules("spec.driver.resources.limits.memory"),
    )


_LARGER_REQUEST = (
    "spec.driver.resources.requests.{0} must not be larger than spec.driver.resources.limits.{0} ({1} when absent): "
    "lower the request or raise the limit"
)


def _within_limit(resource: str) -> str:
    """CEL: a request is not larger than its limit. The field's own rule refuses a value that is not a quantity."""
    request, limit = f"string(self.requests.{resource})", f"string(self.limits.{resource})"
    return (
        f"!has(self.requests) || !has(self.limits) || !has(self.requests.{resource}) || !has(self.limits.{resource}) "
        f"|| !isQuantity({request}) || !isQuantity({limit}) || quantity({request}).compareTo(quantity({limit})) <= 0"
    )


class Resources(ApiModel):
    """CPU and memory of the driver."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (_within_limit("cpu"), _LARGER_REQUEST.format("cpu", "2")),
            (_within_limit("memory"), _LARGER_REQUEST.format("memory", "2Gi")),
            (
                "!has(self.limits) || !has(self.limits.memory) || !isQuantity(string(self.limits.memory)) || "
                f"quantity(string(self.limits.memory)).compareTo(quantity('{MINIMUM_MEMORY}')) >= 0",
                f"spec.driver.resources.limits.memory is too small for a driver: set at least {MINIMUM_MEMORY}",
            ),
        )
    )

    requests: ResourceRequests = Field(ResourceRequests(), description="What the scheduler reserves for the driver.")
    limits: ResourceLimits = Field(ResourceLimits(), description="The maximum that the driver may use.")


class Driver(ApiModel):
    """The driver's pod."""

    resources: Resources = Field(Resources(), description="CPU and memory of the driver.")
