"""Base of all API models: camelCase in JSON, immutable in memory, and CEL rules next to the field that they check."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Base of every API type.

    It ignores unknown fields: the API server already refuses or prunes them, and an older operator must accept objects
    of a newer CRD.
    """

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, extra="ignore")

    def to_json_dict(self) -> dict[str, Any]:
        """The form of the API server and of `job.json`: camelCase, and absent fields instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Schema extension with CEL rules. Each pair is (rule, message), and the message names the field and the remedy."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}
