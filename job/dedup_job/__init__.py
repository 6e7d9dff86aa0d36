"""The data plane: the driver process of one DedupJob. It reads a Kafka topic, removes duplicates and writes the
rest."""
