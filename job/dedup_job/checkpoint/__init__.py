"""The checkpoint volume: its layout, its files, its lock, and its recovery after a crash or a power cut."""
