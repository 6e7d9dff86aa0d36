"""Measurements that stand in docs/decisions: not tests, since a machine's speed is nobody's fault."""
