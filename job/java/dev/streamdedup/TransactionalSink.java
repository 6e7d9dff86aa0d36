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
 * One Kafka transaction for a whole batch. Spark runs its tasks as threads of the driver's JVM, and a producer is made for many threads: all
 * tasks send through this one, so rows and marker are one transaction, and which task has which row does not matter.
 *
 * <p>Called from Python, one call at a time; only {@link #send} is called by the tasks.
 */
public final class TransactionalSink implements AutoCloseable {
  private static final AtomicReference<TransactionalSink> OPEN = new AtomicReference<>();

  private final String topic;
  private final int commitTries;
  private final int batchBytes;
  private final ReadWriteLock batches = new ReentrantReadWriteLock();
  private final Producer<byte[], byte[]> producer;
  private final AtomicLong sent = new AtomicLong();
  private final AtomicReference<Exception> failure = new AtomicReference<>();

  private TransactionalSink(Map<String, Object> settings, String topic, int commitTries) {
    this.topic = topic;
    this.commitTries = commitTries;
    this.batchBytes = Integer.parseInt((String) settings.get("batch.size"));
    this.producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
  }

  /** Fences every older producer of the transactional id, and ends what one of them has left open. */
  public static TransactionalSink open(Map<String, Object> settings, String topic, int commitTries) {
    TransactionalSink sink = new TransactionalSink(settings, topic, commitTries);
    try {
      sink.producer.initTransactions();
    } catch (RuntimeException error) {
      sink.close();
      throw error;
    }
    OPEN.set(sink);
    return sink;
  }

  public void begin() {
    sent.set(0);
    failure.set(null);
    producer.beginTransaction();
  }

  /** One action over all rows (key, value, headers, timestamp in ms or null, topic or null for the output's); how many were sent. */
  public long write(Dataset<Row> rows) throws Exception {
    rows.foreachPartition((ForeachPartitionFunction<Row>) TransactionalSink::sendAll);
    producer.flush();
    throwFailure();
    return sent.get();
  }

  /** One action that reads all rows and sends none. */
  public static void drain(Dataset<Row> rows) {
    rows.foreachPartition((ForeachPartitionFunction<Row>) partition -> partition.forEachRemaining(row -> {}));
  }

  private static void sendAll(Iterator<Row> rows) throws Exception {
    TransactionalSink sink = OPEN.get();
    while (rows.hasNext()) {
      sink.send(rows.next());
    }
  }

  private void send(Row row) throws Exception {
    Long timestamp = row.isNullAt(3) ? null : row.getLong(3);
    ProducerRecord<byte[], byte[]> record =
        new ProducerRecord<>(
            row.isNullAt(4) ? topic : row.getString(4), null, timestamp, (byte[]) row.get(0), (byte[]) row.get(1), readHeaders(row));
    if (isLarge(record)) {
      sendAlone(record);
    } else {
      batches.readLock().lock();
      try {
        send(record);
      } finally {
        batches.readLock().unlock();
      }
    }
    sent.incrementAndGet();
  }

  private boolean isLarge(ProducerRecord<byte[], byte[]> record) {
    long bytes = (record.key() == null ? 0L : record.key().length) + (record.value() == null ? 0L : record.value().length);
    for (Header header : record.headers()) {
      bytes += header.key().length() + (header.value() == null ? 0L : header.value().length);
    }
    return bytes > batchBytes;
  }

  /**
   * A record that fills more than a batch goes in a batch of its own. With others in it, a producer that is told that the batch is too large
   * splits it into the same batch again, without end, and never says that the record is too large.
   */
  private void sendAlone(ProducerRecord<byte[], byte[]> record) throws Exception {
    batches.writeLock().lock();
    try {
      producer.flush();
      send(record);
      producer.flush();
    } finally {
      batches.writeLock().unlock();
    }
  }

  private void send(ProducerRecord<byte[], byte[]> record) throws Exception {
    throwFailure();
    try {
      producer.send(record, (metadata, error) -> {
        if (error != null) {
          failure.compareAndSet(null, error);
        }
      });
    } catch (KafkaException | IllegalStateException error) {
      failure.compareAndSet(null, error);
      throwFailure();
    }
  }

  /** What failed first: everything after it only says that the transaction is broken. */
  private void throwFailure() throws Exception {
    Exception first = failure.get();
    if (first != null) {
      throw first;
    }
  }

  private static List<Header> readHeaders(Row row) {
    if (row.isNullAt(2)) {
      return List.of();
    }
    List<Row> found = row.getList(2);
    List<Header> headers = new ArrayList<>(found.size());
    for (Row header : found) {
      headers.add(new RecordHeader(header.getString(0), (byte[]) header.get(1)));
    }
    return headers;
  }

  /** The last record of the transaction: partition 0 of the progress topic. */
  public void mark(String progressTopic, byte[] key, byte[] value) throws Exception {
    send(new ProducerRecord<>(progressTopic, 0, key, value));
    producer.flush();
    throwFailure();
  }

  /** A commit that times out is asked for again: the coordinator answers the same as long as it has not given the transaction up. */
  public void commit() {
    for (int left = commitTries; ; left--) {
      try {
        producer.commitTransaction();
        return;
      } catch (TimeoutException error) {
        if (left <= 1) {
          throw error;
        }
      }
    }
  }

  public void abort() {
    producer.abortTransaction();
  }

  /** Does not wait for what is in flight: whatever is not committed is to be aborted by the next producer. */
  @Override
  public void close() {
    OPEN.compareAndSet(this, null);
    producer.close(Duration.ZERO);
  }

  /** The value of the newest committed record of the key in partition 0; null if there is none. Reads from the end, in growing steps. */
  public static byte[] readNewest(Map<String, Object> settings, String topic, byte[] key, long timeoutMs) {
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
        throw new TimeoutException("the progress topic " + partition.topic() + " holds an open transaction of another writer");
      }
    }
    return found;
  }
}
