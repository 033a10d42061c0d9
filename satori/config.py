"""What every typed configuration shares: frozen, no unknown keys, one docstring under each field for ``--help``."""

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all configuration sections. Unknown keys and wrong types are errors that name the key."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def derive_seed(seed: int, *names: Any) -> int:
    """An independent seed for each named use, so that no stage or step depends on what ran before it."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
