package dev.streamdedup;

import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;
import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;

/**
 * The event times of the running batch. Tasks ask here which records are late; the driver reads here, for each source
 * partition, the times from which it computes the next watermark.
 *
 * <p>The fields are static because Spark runs one batch at a time and all its tasks are threads of this JVM. All
 * times are microseconds since the epoch.
 */
public final class BatchTimes {
  private static final int SAMPLE_SIZE = 1024;
  /** How many of the last records before the batch count towards the median. */
  private static final int RECENT_SIZE = 15;
  private static final long MILLISECOND = 1000L;

  private static volatile long lateBound = Long.MIN_VALUE;
  private static volatile long arrivalTime = Long.MIN_VALUE;
  private static final Map<Integer, Sample> SAMPLES = new ConcurrentHashMap<>();
  private static final Map<Integer, LongAdder> READ = new ConcurrentHashMap<>();

  private BatchTimes() {}

  /**
   * The driver calls this before each batch: records whose time is at most `lateUpTo` are late, and the function
   * `arrival` gives no time before `arrival`.
   */
  public static void begin(long lateUpTo, long arrival) {
    lateBound = lateUpTo;
    arrivalTime = arrival;
    SAMPLES.values().forEach(Sample::begin);
    READ.values().forEach(LongAdder::reset);
    Plausibility.begin();
  }

  /**
   * The driver calls this after each batch. Returns one line for each source partition that has a time in the batch:
   * partition, newest time and median time, separated by blanks.
   */
  public static String describe() {
    StringBuilder lines = new StringBuilder();
    SAMPLES.forEach(
        (partition, sample) -> {
          if (sample.count() > 0) {
            lines.append(partition).append(' ').append(sample.newest()).append(' ').append(sample.median()).append('\n');
          }
        });
    return lines.toString();
  }

  static void countRead(int partition) {
    READ.computeIfAbsent(partition, ignored -> new LongAdder()).increment();
  }

  /**
   * The driver calls this after each batch. Returns one line for each source partition: partition and number of records
   * that the batch has read from it, also invalid ones, separated by a blank.
   */
  public static String describeRead() {
    StringBuilder lines = new StringBuilder();
    READ.forEach((partition, count) -> lines.append(partition).append(' ').append(count.sum()).append('\n'));
    return lines.toString();
  }

  /**
   * `is_late(partition, time, watermark_time)`: also records `watermark_time`, the time that counts for the next
   * watermark, and whether the time is plausible.
   */
  public static final class IsLate implements ScalarFunction<Boolean> {
    private static final long serialVersionUID = 1L;

    @Override
    public DataType[] inputTypes() {
      return new DataType[] {DataTypes.IntegerType, DataTypes.TimestampType, DataTypes.TimestampType};
    }

    @Override
    public DataType resultType() {
      return DataTypes.BooleanType;
    }

    @Override
    public String name() {
      return "is_late";
    }

    @Override
    public boolean isDeterministic() {
      return false; // Spark must call it exactly once for each record, and never while it plans
    }

    public boolean invoke(int partition, long time, long watermarkTime) {
      Plausibility.countTime(time);
      SAMPLES.computeIfAbsent(partition, ignored -> new Sample()).add(watermarkTime);
      return time <= lateBound;
    }
  }

  /**
   * `arrival(now)`: the event time of a record with `eventTime.from: Arrival`. It is never late, even when the system
   * clock was set back: the driver's clock of arrival runs on.
   */
  public static final class Arrival implements ScalarFunction<Long> {
    private static final long serialVersionUID = 1L;

    @Override
    public DataType[] inputTypes() {
      return new DataType[] {DataTypes.TimestampType};
    }

    @Override
    public DataType resultType() {
      return DataTypes.TimestampType;
    }

    @Override
    public String name() {
      return "arrival";
    }

    @Override
    public boolean isDeterministic() {
      return false;
    }

    public long invoke(long now) {
      return Math.max(Math.max(now, arrivalTime), lateBound + MILLISECOND);
    }
  }

  /**
   * A uniform random sample (a reservoir) of one partition's times in the batch, and the newest time.
   *
   * <p>The last few times of the batches before also count towards the median: where a batch holds a single record of
   * a partition, the time of that record alone would be the median.
   */
  private static final class Sample {
    private final long[] kept = new long[SAMPLE_SIZE];
    private final long[] recent = new long[RECENT_SIZE];
    private int recentCount;
    private int carried;
    private long count;
    private long newest = Long.MIN_VALUE;
    private long random = 0x9E3779B97F4A7C15L;

    synchronized void begin() {
      carried = Math.min(recentCount, RECENT_SIZE);
      System.arraycopy(recent, 0, kept, 0, carried);
      count = 0;
      newest = Long.MIN_VALUE;
    }

    synchronized void add(long time) {
      newest = Math.max(newest, time);
      recent[recentCount % RECENT_SIZE] = time;
      recentCount = recentCount + 1 == 2 * RECENT_SIZE ? RECENT_SIZE : recentCount + 1;
      long earlier = carried + count++;
      if (earlier < SAMPLE_SIZE) {
        kept[(int) earlier] = time;
        return;
      }
      random ^= random << 13;
      random ^= random >>> 7;
      random ^= random << 17;
      long index = Long.remainderUnsigned(random, earlier + 1);
      if (index < SAMPLE_SIZE) {
        kept[(int) index] = time;
      }
    }

    synchronized long count() {
      return count;
    }

    synchronized long newest() {
      return newest;
    }

    /** The lower one of the two where the number of times is even. */
    synchronized long median() {
      long[] sorted = Arrays.copyOf(kept, (int) Math.min(carried + count, SAMPLE_SIZE));
      Arrays.sort(sorted);
      return sorted[(sorted.length - 1) / 2];
    }
  }
}
