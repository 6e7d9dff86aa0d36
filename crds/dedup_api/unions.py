"""Objects of the spec in which the user sets one member out of several, such as `spec.sink`.

The list of members stands in the model alone. The CEL rules of the CRD, the operator's validation and the driver's
validation are derived from it: a new field of `Sink` is a new sink for all three.

The CRD has no default inside of a union or for one: the API server would store it, no client would own it, and it would
stand beside the member that the user chooses later. The models hold the defaults, so the operator fills them in. The
CRD of version 0.1.0 did store defaults. `union_stored_defaults` says which, and such a member gives way to another one.
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from dedup_api.model import ApiModel, rules

VALIDATIONS = "x-kubernetes-validations"
UNION_MEMBERS = "x-union-members"
"""In pydantic's schema only: `crd.py` removes it."""


def _count(conditions: list[str]) -> str:
    return f"[{', '.join(conditions)}].filter(given, given).size()"


def _find_model(annotation: Any) -> type[ApiModel]:
    """The model in an annotation such as `Claim | None`."""
    return next(option for option in get_args(annotation) if isinstance(option, type) and issubclass(option, ApiModel))


def _is_stored_default(value: Any, stored: Any) -> bool:
    if isinstance(value, ApiModel):
        value = value.to_json_dict()
    if isinstance(stored, dict) and isinstance(value, dict):
        return all(key in stored and str(given) == stored[key] for key, given in value.items())
    return stored is not None and value == stored


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
    union_default: ClassVar[dict[str, Any]] = {}
    """What an object without a member means, as JSON."""
    union_stored_defaults: ClassVar[dict[str, Any]] = {}
    """Python name of a member -> the value that the API server stored by itself under the CRD of version 0.1.0: a text,
    or the fields of an object, each of which may be missing."""

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
        given = [f"has(self.{member})" for member in cls.list_members()]
        rule = f"{_count(given)} {'== 1' if cls.union_required else '<= 1'}"
        if cls.union_stored_defaults:
            chosen = [f"{has}{cls._build_stored_default_rule(member)}" for has, member in zip(given, cls.list_members(), strict=True)]
            rule = f"{rule} || {_count(chosen)} == 1"
        return rules((rule, cls.build_union_message()))

    @classmethod
    def _build_stored_default_rule(cls, member: str) -> str:
        """The part of a CEL rule that is false for a member with nothing but stored defaults."""
        stored = {to_camel(name): value for name, value in cls.union_stored_defaults.items()}.get(member)
        if stored is None:
            return ""
        if not isinstance(stored, dict):
            return f" && self.{member} != '{stored}'"
        schema = cls.model_fields[next(name for name in cls.model_fields if to_camel(name) == member)].annotation
        fields = [to_camel(name) for name in _find_model(schema).model_fields]
        differs = [
            f"has(self.{member}.{field})" + (f" && string(self.{member}.{field}) != '{stored[field]}'" if field in stored else "")
            for field in fields
        ]
        return f" && ({' || '.join(differs)})"

    @model_validator(mode="before")
    @classmethod
    def _choose_member(cls, document: Any) -> Any:
        """Drops a stored default beside another member, and fills in the default of an object without a member."""
        if not isinstance(document, dict):
            return document
        names = {spelling: name for name in cls.union_members or cls.model_fields for spelling in (name, to_camel(name))}
        given = {key: names[key] for key, value in document.items() if key in names and value is not None}
        if not given:
            return {**document, **cls.union_default}
        kept = {key for key, name in given.items() if not _is_stored_default(document[key], cls.union_stored_defaults.get(name))}
        return {key: value for key, value in document.items() if key not in given or key in kept} if kept else document

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema[VALIDATIONS] = [*cls.build_union_rule()[VALIDATIONS], *schema.get(VALIDATIONS, [])]
        schema[UNION_MEMBERS] = cls.list_members()
        return schema

    def find_union_problem(self) -> str | None:
        """The message for the user if the number of members is wrong; None otherwise."""
        count = sum(getattr(self, name) is not None for name in self.union_members or type(self).model_fields)
        return None if count == 1 or (count == 0 and not self.union_required) else self.build_union_message()
