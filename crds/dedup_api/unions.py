"""Objects of the spec in which the user sets one member out of several, such as `spec.sink`.

The list of members stands in the model alone. The CEL rules of the CRD, the operator's validation and the driver's
validation are derived from it: a new field of `Sink` is a new sink for all three.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from dedup_api.model import ApiModel, rules

VALIDATIONS = "x-kubernetes-validations"


class UnionModel(ApiModel):
    """Base class of such an object."""

    union_path: ClassVar[str]
    """Path of the object as users write it, such as `spec.sink`."""
    union_members: ClassVar[tuple[str, ...]] = ()
    """Python names of the members; empty means that every field is a member."""
    union_required: ClassVar[bool] = True
    """True: exactly one member must be set. False: at most one."""
    union_help: ClassVar[str] = ""
    """What a user must know beyond the list of members; appended to the message."""

    @classmethod
    def list_members(cls) -> list[str]:
        """Names of the members in the API, in the order of the model."""
        return [to_camel(name) for name in cls.union_members or cls.model_fields]

    @classmethod
    def build_union_message(cls) -> str:
        paths = [f"{cls.union_path}.{member}" for member in cls.list_members()]
        choice = f"{', '.join(paths[:-1])} or {paths[-1]}"
        if cls.union_required:
            return f"{cls.union_path} needs exactly one member: set {choice}{cls.union_help}"
        return f"{cls.union_path} takes at most one member: keep {choice}, and remove the rest{cls.union_help}"

    @classmethod
    def build_union_rule(cls) -> dict[str, Any]:
        given = ", ".join(f"has(self.{member})" for member in cls.list_members())
        count = "== 1" if cls.union_required else "<= 1"
        return rules((f"[{given}].filter(given, given).size() {count}", cls.build_union_message()))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema[VALIDATIONS] = [*cls.build_union_rule()[VALIDATIONS], *schema.get(VALIDATIONS, [])]
        return schema

    def find_union_problem(self) -> str | None:
        """The message for the user if the number of members is wrong; None otherwise."""
        count = sum(getattr(self, name) is not None for name in self.union_members or type(self).model_fields)
        return None if count == 1 or (count == 0 and not self.union_required) else self.build_union_message()
