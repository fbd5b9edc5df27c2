"""What every group of settings has in common."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Precision = Literal["auto", "float32", "bfloat16"]
"""The number type of convolutions; "auto" takes bfloat16 where the device has it."""


class Settings(BaseModel):
    """A frozen group of values that checks itself and refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
