package dev.streamdedup;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.spark.api.java.function.ForeachPartitionFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;

/**
 * Writes a whole batch in one Kafka transaction. Spark runs its tasks as threads of the driver's JVM, and a Kafka
 * producer is thread-safe: all tasks send through the same producer, so the rows and the marker are in one
 * transaction.
 *
 * <p>Python calls the public methods, one at a time. Spark's tasks call only {@link #send}.
 */
public final class TransactionalSink implements AutoCloseable {
  private static final AtomicReference<TransactionalSink> CURRENT = new AtomicReference<>();

  private final String topic;
  private final int commitTries;
  private final int batchBytes;
  /** Tasks hold the read lock while they send; {@link #sendAlone} holds the write lock. */
  private final ReadWriteLock sendLock = new ReentrantReadWriteLock();
  private final Producer<byte[], byte[]> producer;
  private final AtomicLong sent = new AtomicLong();
  private final AtomicReference<SinkFailure> failure = new AtomicReference<>();

  private TransactionalSink(Map<String, Object> settings, String topic, int commitTries) {
    this.topic = topic;
    this.commitTries = commitTries;
    this.batchBytes = Integer.parseInt((String) settings.get("batch.size"));
    this.producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
  }

  /**
   * Fences every older producer of the transactional id. The coordinator aborts the transaction that one of them has
   * left open.
   */
  public static TransactionalSink open(Map<String, Object> settings, String topic, int commitTries) throws SinkFailure {
    TransactionalSink sink = new TransactionalSink(settings, topic, commitTries);
    try {
      sink.producer.initTransactions();
    } catch (RuntimeException error) {
      sink.close();
      throw SinkFailure.ofTransaction("", error);
    }
    CURRENT.set(sink);
    return sink;
  }

  public void begin() throws SinkFailure {
    sent.set(0);
    failure.set(null);
    try {
      producer.beginTransaction();
    } catch (RuntimeException error) {
      throw SinkFailure.ofTransaction("", error);
    }
  }

  /**
   * Sends all rows in one Spark action and returns how many it has sent. The columns: key, value, headers, timestamp
   * in milliseconds or null, topic or null (null means the output topic), partition and offset of the source record.
   */
  public long write(Dataset<Row> rows) throws Exception {
    rows.foreachPartition((ForeachPartitionFunction<Row>) TransactionalSink::sendAll);
    producer.flush();
    throwFailure();
    return sent.get();
  }

  /** Reads all rows in one Spark action and sends none. */
  public static void drain(Dataset<Row> rows) {
    rows.foreachPartition((ForeachPartitionFunction<Row>) partition -> partition.forEachRemaining(row -> {}));
  }

  private static void sendAll(Iterator<Row> rows) throws Exception {
    TransactionalSink sink = CURRENT.get();
    while (rows.hasNext()) {
      sink.send(rows.next());
    }
  }

  private void send(Row row) throws Exception {
    Long timestamp = row.isNullAt(3) ? null : row.getLong(3);
    ProducerRecord<byte[], byte[]> record =
        new ProducerRecord<>(
            row.isNullAt(4) ? topic : row.getString(4), null, timestamp, (byte[]) row.get(0), (byte[]) row.get(1), readHeaders(row));
    SinkFailure.SourceRecord source = new SinkFailure.SourceRecord(row.getInt(5), row.getLong(6), measure(record));
    if (source.bytes() > batchBytes) {
      sendAlone(record, source);
    } else {
      sendLock.readLock().lock();
      try {
        send(record, source);
      } finally {
        sendLock.readLock().unlock();
      }
    }
    sent.incrementAndGet();
  }

  /** Bytes of key, value and headers. */
  private static long measure(ProducerRecord<byte[], byte[]> record) {
    long bytes = (record.key() == null ? 0L : record.key().length) + (record.value() == null ? 0L : record.value().length);
    for (Header header : record.headers()) {
      bytes += header.key().length() + (header.value() == null ? 0L : header.value().length);
    }
    return bytes;
  }

  /**
   * Sends a record that is larger than `batch.size` in a producer batch without other records. When a producer batch
   * holds such a record and others, and the broker answers that the batch is too large, the producer splits it into
   * the same batch again, without end, and never reports that the record is too large.
   */
  private void sendAlone(ProducerRecord<byte[], byte[]> record, SinkFailure.SourceRecord source) throws Exception {
    sendLock.writeLock().lock();
    try {
      producer.flush();
      send(record, source);
      producer.flush();
    } finally {
      sendLock.writeLock().unlock();
    }
  }

  private void send(ProducerRecord<byte[], byte[]> record, SinkFailure.SourceRecord source) throws Exception {
    throwFailure();
    String target = record.topic();
    try {
      producer.send(record, (metadata, error) -> {
        if (error != null) {
          failure.compareAndSet(null, SinkFailure.ofOutput(target, source, error));
        }
      });
    } catch (KafkaException | IllegalStateException error) {
      failure.compareAndSet(null, SinkFailure.ofOutput(target, source, error));
      throwFailure();
    }
  }

  /** Throws the first failure: all later ones only say that the transaction has failed. */
  private void throwFailure() throws SinkFailure {
    SinkFailure first = failure.get();
    if (first != null) {
      throw first;
    }
  }

  private static List<Header> readHeaders(Row row) {
    if (row.isNullAt(2)) {
      return List.of();
    }
    List<Row> rows = row.getList(2);
    List<Header> headers = new ArrayList<>(rows.size());
    for (Row header : rows) {
      headers.add(new RecordHeader(header.getString(0), (byte[]) header.get(1)));
    }
    return headers;
  }

  /** Writes the marker, the last record of the transaction, to partition 0 of the progress topic. */
  public void mark(String progressTopic, byte[] key, byte[] value) throws Exception {
    send(new ProducerRecord<>(progressTopic, 0, key, value), new SinkFailure.SourceRecord(-1, -1, key.length + value.length));
    producer.flush();
    throwFailure();
  }

  /**
   * Repeats a commit that times out, up to `commitTries` times in all. This is safe: the coordinator answers a
   * repeated commit with the same result until the transaction's timeout.
   */
  public void commit() throws SinkFailure {
    for (int left = commitTries; ; left--) {
      try {
        producer.commitTransaction();
        return;
      } catch (TimeoutException error) {
        if (left <= 1) {
          throw SinkFailure.ofTransaction("", error);
        }
      } catch (RuntimeException error) {
        throw SinkFailure.ofTransaction("", error);
      }
    }
  }

  public void abort() {
    producer.abortTransaction();
  }

  /** Does not wait for records in flight: the next producer aborts everything that is not committed. */
  @Override
  public void close() {
    CURRENT.compareAndSet(this, null);
    producer.close(Duration.ZERO);
  }

  /**
   * Returns the value of the newest committed record with the key in partition 0, or null when there is none. Reads
   * the last 64 offsets first, and eight times as many in each further step.
   */
  public static byte[] readNewest(Map<String, Object> settings, String topic, byte[] key, long timeoutMs) throws SinkFailure {
    try {
      return findNewest(settings, topic, key, timeoutMs);
    } catch (RuntimeException error) {
      throw SinkFailure.ofTransaction(topic, error);
    }
  }

  private static byte[] findNewest(Map<String, Object> settings, String topic, byte[] key, long timeoutMs) {
    TopicPartition partition = new TopicPartition(topic, 0);
    long end = readEnd(settings, partition);
    Map<String, Object> committed = new HashMap<>(settings);
    committed.put("isolation.level", "read_committed");
    long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(timeoutMs);
    try (Consumer<byte[], byte[]> consumer = openConsumer(committed)) {
      consumer.assign(List.of(partition));
      long start = consumer.beginningOffsets(List.of(partition)).get(partition);
      for (long back = 64; ; back *= 8) {
        long from = Math.max(start, end - back);
        byte[] found = readLast(consumer, partition, key, from, end, deadline);
        if (found != null || from == start) {
          return found;
        }
      }
    }
  }

  private static long readEnd(Map<String, Object> settings, TopicPartition partition) {
    try (Consumer<byte[], byte[]> consumer = openConsumer(settings)) {
      return consumer.endOffsets(List.of(partition)).get(partition);
    }
  }

  private static Consumer<byte[], byte[]> openConsumer(Map<String, Object> settings) {
    return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  private static byte[] readLast(
      Consumer<byte[], byte[]> consumer, TopicPartition partition, byte[] key, long from, long end, long deadline) {
    byte[] found = null;
    consumer.seek(partition, from);
    while (consumer.position(partition) < end) {
      for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
        if (Arrays.equals(record.key(), key)) {
          found = record.value();
        }
      }
      if (System.nanoTime() > deadline) {
        throw new TimeoutException(
            "the progress topic " + partition.topic() + " still has an open transaction of another producer");
      }
    }
    return found;
  }
}
