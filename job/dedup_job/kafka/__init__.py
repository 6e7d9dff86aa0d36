"""What the driver asks the brokers beside reading and writing records: topics, offsets, lag, the consumer group."""
