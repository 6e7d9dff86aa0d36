"""The streaming query: from the source topic through key, event time and deduplication to one batch at a time."""
