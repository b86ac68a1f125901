"""What the models of requests are made of: strict fields, and those that are taken at one value only."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """An object whose keys are all known and whose values have exactly the type they are declared with."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def only(value: float | bool) -> AfterValidator:
    """A validator that refuses every value but `value`, which is what leaving the parameter out means here too."""

    def check(given: float | bool) -> float | bool:
        if given != value:
            raise PydanticCustomError("only", "Input should be {value}", {"value": json.dumps(value)})
        return given

    return AfterValidator(check)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


AS_WHOLE = BeforeValidator(_whole)
"""Takes 3.0 for the whole number 3, as JSON's schemas do. After the bounds of the number, or the schema lacks them."""


def text_or(other: str) -> Discriminator:
    """A discriminator between the tags "text", for a string, and `other`, for anything else."""

    def form(value: Any) -> str:
        return "text" if isinstance(value, str) else other

    return Discriminator(form)


def several(most: int, least: int = 0) -> FieldInfo:
    """The bounds of a list, of which the first item that is wrong is told: no more is read of it."""
    bounds: FieldInfo = Field(min_length=least, max_length=most, fail_fast=True)
    return bounds


Zero = Annotated[float, only(0), Field(json_schema_extra={"const": 0})]
One = Annotated[int, only(1), Field(json_schema_extra={"const": 1}), AS_WHOLE]
No = Annotated[bool, only(False), Field(json_schema_extra={"const": False})]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Identifier = Annotated[str, Field(min_length=1, max_length=512)]
Text = Annotated[str, Tag("text")]
