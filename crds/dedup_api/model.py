"""What the models have in common: camelCase on the wire, frozen in memory, and CEL rules beside the field they guard."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Base of every API type.

    Unknown fields are ignored on reading: the API server already refuses or prunes them, and an older operator must
    not break on the CRD of a newer one.
    """

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, extra="ignore")

    def to_json_dict(self) -> dict[str, Any]:
        """As the API server and `job.json` have it: camelCase, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Schema extension with CEL rules. Each pair is (rule, message); the message names the field and the remedy."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}
