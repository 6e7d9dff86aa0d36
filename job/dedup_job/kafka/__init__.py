"""Kafka, except for reading and writing records: topics, offsets, lag, the consumer group, and client settings."""
