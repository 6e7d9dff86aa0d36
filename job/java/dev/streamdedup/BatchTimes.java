package dev.streamdedup;

import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;

/**
 * Event times of the batch that is running: which records of it are late, and what each partition's times look like, from which the
 * driver decides the next watermark. One batch runs at a time, and all its tasks are threads of this JVM. Times are microseconds.
 */
public final class BatchTimes {
  private static final int SAMPLE = 1024;
  private static final int RECENT = 15;
  private static final long MILLISECOND = 1000L;

  private static volatile long lateBound = Long.MIN_VALUE;
  private static final Map<Integer, Sample> SAMPLES = new ConcurrentHashMap<>();

  private BatchTimes() {}

  /** Before a batch: records with a time up to this are late. */
  public static void begin(long lateUpTo) {
    lateBound = lateUpTo;
    SAMPLES.values().forEach(Sample::begin);
  }

  /** After it: a line for each partition with a time in the batch: partition, newest and middle time, with blanks between. */
  public static String describe() {
    StringBuilder lines = new StringBuilder();
    SAMPLES.forEach(
        (partition, sample) -> {
          if (sample.count() > 0) {
            lines.append(partition).append(' ').append(sample.newest()).append(' ').append(sample.middle()).append('\n');
          }
        });
    return lines.toString();
  }

  /** `is_late(partition, time, seen)`: notes `seen`, the time as far as it counts for the watermark. */
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
      return false; // once for each record, and never at planning
    }

    public boolean invoke(int partition, long time, long seen) {
      SAMPLES.computeIfAbsent(partition, ignored -> new Sample()).add(seen);
      return time <= lateBound;
    }
  }

  /** `arrival(now)`: the time of a record that counts from its reading; never late, also where the clock was set back. */
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
      return Math.max(now, lateBound + MILLISECOND);
    }
  }

  /**
   * A fair sample of a partition's times in the batch, and the newest of them. To the middle count the last few of the batches before too:
   * where a batch holds one record of a partition, its time alone would say what time it is there.
   */
  private static final class Sample {
    private final long[] kept = new long[SAMPLE];
    private final long[] recent = new long[RECENT];
    private int recentCount;
    private int carried;
    private long count;
    private long newest = Long.MIN_VALUE;
    private long random = 0x9E3779B97F4A7C15L;

    synchronized void begin() {
      carried = Math.min(recentCount, RECENT);
      System.arraycopy(recent, 0, kept, 0, carried);
      count = 0;
      newest = Long.MIN_VALUE;
    }

    synchronized void add(long time) {
      newest = Math.max(newest, time);
      recent[recentCount % RECENT] = time;
      recentCount = recentCount + 1 == 2 * RECENT ? RECENT : recentCount + 1;
      long seen = carried + count++;
      if (seen < SAMPLE) {
        kept[(int) seen] = time;
        return;
      }
      random ^= random << 13;
      random ^= random >>> 7;
      random ^= random << 17;
      long place = Long.remainderUnsigned(random, seen + 1);
      if (place < SAMPLE) {
        kept[(int) place] = time;
      }
    }

    synchronized long count() {
      return count;
    }

    synchronized long newest() {
      return newest;
    }

    /** The lower of two in the middle. */
    synchronized long middle() {
      long[] sorted = Arrays.copyOf(kept, (int) Math.min(carried + count, SAMPLE));
      Arrays.sort(sorted);
      return sorted[(sorted.length - 1) / 2];
    }
  }
}
