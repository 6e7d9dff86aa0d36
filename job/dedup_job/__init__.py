"""The data plane: the driver process of one DedupJob. Reads a Kafka topic, removes duplicates, writes what is left."""
