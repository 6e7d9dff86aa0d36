"""Kubernetes quantities (`500m`, `2`, `2Gi`) as numbers."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|[kMGTPE]|[KMGTPE]i)?$")


def parse_quantity(text: str | int) -> Decimal:
    """The number of units (cores, bytes) that `text` describes. Raises ValueError with the remedy if it is not a
    quantity."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a quantity: write a number with an optional suffix, such as 500m, 2 or 2Gi")
    return Decimal(match.group(1)) * _SUFFIXES[match.group(2) or ""]
