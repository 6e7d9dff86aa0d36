"""The checkpoint volume: the paths on it, one type per file, its lock, the checks of a batch, and the recovery."""
