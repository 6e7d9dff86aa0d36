package dev.streamdedup;

import java.util.concurrent.atomic.LongAdder;
import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;

/**
 * Counts the records of the running batch whose times are almost certainly in a wrong unit. `dedup_job.stream.plausibility`
 * decides what the counts mean. All times are microseconds since the epoch.
 */
public final class Plausibility {
  /** 1970-01-01 and 1970-03-01: seconds that are read as milliseconds, and milliseconds that are read as microseconds. */
  private static final long EARLY_END = 59L * 86_400 * 1_000_000;
  /** 2000-01-01. Kafka is younger. */
  private static final long KAFKA_BEGIN = 946_684_800L * 1_000_000;
  /** The year 3000. Milliseconds that were multiplied by a thousand are far behind it. */
  private static final long LATEST = 32_503_680_000L * 1_000_000;

  private static final LongAdder EARLY = new LongAdder();
  private static final LongAdder OTHER_UNIT = new LongAdder();
  private static final LongAdder ODD_STORED = new LongAdder();

  private Plausibility() {}

  static void begin() {
    EARLY.reset();
    OTHER_UNIT.reset();
    ODD_STORED.reset();
  }

  static void countTime(long time) {
    if (0 <= time && time < EARLY_END) {
      EARLY.increment();
    }
  }

  /** `stored`: the record's Kafka timestamp, 0 or less when it has none. */
  static void countStored(long stored) {
    if (0 < stored && stored < KAFKA_BEGIN || stored > LATEST) {
      ODD_STORED.increment();
    }
  }

  static void countOtherUnit() {
    OTHER_UNIT.increment();
  }

  /** After a batch: the numbers of early times, of times in another unit, and of odd Kafka timestamps. */
  public static String describe() {
    return EARLY.sum() + " " + OTHER_UNIT.sum() + " " + ODD_STORED.sum();
  }

  /**
   * `note_stored(timestamp, partition)`: the Kafka timestamp of a record, unchanged. It is counted when it is odd, and the
   * record counts as read from its source partition.
   */
  public static final class NoteStored implements ScalarFunction<Long> {
    private static final long serialVersionUID = 1L;

    @Override
    public DataType[] inputTypes() {
      return new DataType[] {DataTypes.TimestampType, DataTypes.IntegerType};
    }

    @Override
    public DataType resultType() {
      return DataTypes.TimestampType;
    }

    @Override
    public String name() {
      return "note_stored";
    }

    @Override
    public boolean isDeterministic() {
      return false; // Spark must call it exactly once for each record
    }

    public long invoke(long stored, int partition) {
      countStored(stored);
      BatchTimes.countRead(partition);
      return stored;
    }
  }
}
