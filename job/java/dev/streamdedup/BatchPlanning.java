package dev.streamdedup;

import java.util.concurrent.locks.ReentrantLock;
import org.apache.spark.sql.connector.read.streaming.ReadLimit;
import org.apache.spark.sql.connector.read.streaming.SparkDataStream;
import org.apache.spark.sql.execution.streaming.runtime.MicroBatchExecution;
import scala.collection.Iterator;
import scala.collection.immutable.Map;

/**
 * How many records the running query may plan for its next batches.
 *
 * <p>The option `maxOffsetsPerTrigger` is fixed when the query starts. This class changes the limit of a running
 * query. It holds the lock under which Spark plans.
 */
public final class BatchPlanning {
  private BatchPlanning() {}

  /**
   * The next batches read at most `maxRows` offsets; Spark divides them among the partitions, and rounds a share below
   * one up. With 0, the next batches read nothing. A batch that is planned already keeps its range. Returns false, and
   * changes nothing, while the query has no sources yet: between its start and its first batch.
   */
  @SuppressWarnings("unchecked") // Java sees the result of Scala's `updated` without its types
  public static boolean setReadLimit(MicroBatchExecution query, long maxRows) {
    ReentrantLock lock = query.awaitProgressLock();
    lock.lock();
    try {
      Map<SparkDataStream, ReadLimit> limits = query.uniqueSources();
      if (limits == null || limits.isEmpty()) {
        return false;
      }
      Iterator<SparkDataStream> sources = limits.keysIterator();
      while (sources.hasNext()) {
        limits = limits.updated(sources.next(), ReadLimit.maxRows(maxRows));
      }
      query.uniqueSources_$eq(limits);
      return true;
    } finally {
      lock.unlock();
    }
  }
}
