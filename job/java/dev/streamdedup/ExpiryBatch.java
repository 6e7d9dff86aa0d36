package dev.streamdedup;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import org.apache.spark.sql.execution.streaming.runtime.MicroBatchExecution;
import scala.Option;

/**
 * An expiry batch: an empty micro-batch that removes expired keys from the state while the topic is quiet.
 *
 * <p>Spark runs such a batch when the watermark has moved, but Spark moves the watermark only at the end of a batch,
 * and a quiet topic has no batches. So this class moves it between two batches.
 *
 * <p>While the query is idle, Spark asks repeatedly whether the watermark calls for another batch. It remembers the
 * watermark that it asked with, and fails when it asks about the same batch with another watermark. This class
 * removes that entry first. It holds the lock under which Spark asks and plans.
 */
public final class ExpiryBatch {
  private ExpiryBatch() {}

  /**
   * Moves the watermark to `milliseconds`, so that Spark runs an expiry batch next. Returns false, and changes
   * nothing, when Spark has already planned the next one, or before the process has run its first batch: until then
   * Spark prepares the query, and plans no batch without data.
   */
  public static boolean request(MicroBatchExecution query, long milliseconds) throws ReflectiveOperationException {
    if (query.lastExecution() == null || query.watermarkTracker() == null) {
      return false;
    }
    ReentrantLock lock = query.awaitProgressLock();
    lock.lock();
    try {
      Option<Object> planned = query.offsetLog().getLatestBatchId();
      Option<Object> committed = query.commitLog().getLatestBatchId();
      if (committed.isEmpty() || !planned.equals(committed)) {
        return false;
      }
      forgetWatermarkOf(query, (Long) committed.get() + 1L);
      query.watermarkTracker().setWatermark(milliseconds);
      return true;
    } finally {
      lock.unlock();
    }
  }

  /**
   * Removes the watermark that Spark remembers for the next batch. Spark's own method `purge` would also remove those
   * of earlier batches, which Spark still reads.
   */
  private static void forgetWatermarkOf(MicroBatchExecution query, long nextBatch) throws ReflectiveOperationException {
    Method getter = MicroBatchExecution.class.getDeclaredMethod("watermarkPropagator");
    getter.setAccessible(true);
    Object propagator = getter.invoke(query);
    Field watermarks = propagator.getClass().getDeclaredField("batchIdToWatermark");
    watermarks.setAccessible(true);
    ((Map<?, ?>) watermarks.get(propagator)).remove(nextBatch);
  }
}
