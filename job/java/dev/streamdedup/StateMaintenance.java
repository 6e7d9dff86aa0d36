package dev.streamdedup;

import java.lang.reflect.Method;
import java.util.UUID;
import org.apache.spark.sql.execution.streaming.state.StateStore$;
import org.apache.spark.sql.execution.streaming.state.StateStoreProviderId;
import scala.collection.Iterator;

/**
 * Asks Spark for the maintenance of the loaded state: it writes the snapshots that are due and deletes the versions
 * that are no longer needed.
 *
 * <p>Spark does that once a minute, for the first time a minute after it has loaded the state. A process that ends
 * earlier would leave all its changelogs. This class starts the same work, in Spark's own threads and under Spark's
 * own locks, so that no partition is maintained twice at the same time.
 */
public final class StateMaintenance {
  private static final StateStore$ STORE = StateStore$.MODULE$;

  private StateMaintenance() {}

  /**
   * Starts the maintenance of all loaded partitions, except of those that Spark maintains already. Does nothing when
   * no state is loaded. Spark logs what goes wrong.
   */
  public static void start() throws ReflectiveOperationException {
    if (STORE.isMaintenanceRunning()) {
      call("doMaintenance");
    }
  }

  /** Whether a partition of the query with this run id is waiting for its maintenance or in it. */
  public static boolean isRunning(UUID runId) throws ReflectiveOperationException {
    synchronized (call("maintenanceThreadPoolLock")) {
      Iterator<?> partitions =
          ((scala.collection.mutable.HashSet<?>) call("maintenancePartitions")).iterator();
      while (partitions.hasNext()) {
        if (((StateStoreProviderId) partitions.next()).queryRunId().equals(runId)) {
          return true;
        }
      }
      return false;
    }
  }

  private static Object call(String name) throws ReflectiveOperationException {
    Method method = StateStore$.class.getDeclaredMethod(name);
    method.setAccessible(true);
    return method.invoke(STORE);
  }
}
