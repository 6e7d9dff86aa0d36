package dev.streamdedup;

/**
 * What failed while the sink wrote a batch: at the output or in its transaction, for which topic and which record. The
 * cause is the exception of the Kafka client, most of which have no stack trace.
 *
 * <p>Python reads the message, see kafka_failures.py.
 */
final class SinkFailure extends Exception {
  private static final long serialVersionUID = 1L;

  private SinkFailure(String message, Exception cause) {
    super(message, cause);
  }

  /** The coordinator, or the marker in the topic: an empty text means that no topic is known. */
  static SinkFailure ofTransaction(String topic, Exception cause) {
    return new SinkFailure("side=transaction topic=" + topic + ": " + cause, cause);
  }

  /** A record that the topic did not take. {@code record} says which one it was. */
  static SinkFailure ofOutput(String topic, SourceRecord record, Exception cause) {
    return new SinkFailure("side=output topic=" + topic + record + ": " + cause, cause);
  }

  /** The place of a record in the source topic, and its size in the output in bytes. Partition -1: no source record. */
  record SourceRecord(int partition, long offset, long bytes) {
    @Override
    public String toString() {
      return (partition < 0 ? "" : " partition=" + partition + " offset=" + offset) + " bytes=" + bytes;
    }
  }
}
