"""The streaming query: it reads the source topic, finds each record's key and event time, removes duplicates, and
writes one micro-batch at a time."""
