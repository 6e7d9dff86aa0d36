"""Measurements for docs/decisions. They are no tests, because their results depend on the machine."""
