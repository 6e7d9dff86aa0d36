"""The sinks: where a job writes its records, and how it makes sure that each record is in the output."""
