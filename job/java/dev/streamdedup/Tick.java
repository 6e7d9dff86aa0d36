package dev.streamdedup;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import org.apache.spark.sql.execution.streaming.runtime.MicroBatchExecution;
import scala.Option;

/**
 * Moves the watermark of a query that is between two batches, so that Spark runs one without data.
 *
 * <p>Spark itself moves it only at the end of a batch. While it has nothing to do it asks again and again whether the watermark calls
 * for another batch, notes which one it asked with, and fails where it is another the next time. So that note is taken back, under the
 * lock under which Spark asks and plans.
 */
public final class Tick {
  private Tick() {}

  /** Whether the watermark is now at `milliseconds`: not where a batch has been planned meanwhile. */
  public static boolean move(MicroBatchExecution query, long milliseconds) throws ReflectiveOperationException {
    ReentrantLock lock = query.awaitProgressLock();
    lock.lock();
    try {
      Option<Object> planned = query.offsetLog().getLatestBatchId();
      Option<Object> committed = query.commitLog().getLatestBatchId();
      if (committed.isEmpty() || !planned.equals(committed)) {
        return false;
      }
      forgetWhatWasAsked(query, (Long) committed.get() + 1L);
      query.watermarkTracker().setWatermark(milliseconds);
      return true;
    } finally {
      lock.unlock();
    }
  }

  /** Only of the batch to come: those before are still looked up. `purge` would remove them too. */
  private static void forgetWhatWasAsked(MicroBatchExecution query, long batch) throws ReflectiveOperationException {
    Method find = MicroBatchExecution.class.getDeclaredMethod("watermarkPropagator");
    find.setAccessible(true);
    Object propagator = find.invoke(query);
    Field watermarks = propagator.getClass().getDeclaredField("batchIdToWatermark");
    watermarks.setAccessible(true);
    ((Map<?, ?>) watermarks.get(propagator)).remove(batch);
  }
}
