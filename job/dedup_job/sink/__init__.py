"""The outputs: what writes the records of a batch, and the Kafka transaction that makes a batch visible."""
