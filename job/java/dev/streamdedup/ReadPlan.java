package dev.streamdedup;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Which parts of a record {@link ReadRecord} reads.
 *
 * <p>`dedup_job.stream.parse.build_read_plan` writes the plan as text, one value a line: where the key comes from
 * (Fields, KafkaKey or ValueHash), the format (Json or Raw), the path of the event time (empty when it is not in the
 * payload), then the paths of the key fields. No path is the beginning of another one: `fields.py` has refused that.
 */
final class ReadPlan {
  final String keyFrom;
  final boolean isJson;
  /** By slot. A slot is the position of a field that is read; the fields' values are stored by slot, too. */
  final String[] paths;
  final int[] keySlots;
  /** -1 when the event time is not in the payload. */
  final int timeSlot;

  final Node root = new Node();

  ReadPlan(String text) {
    String[] lines = text.split("\n", -1);
    keyFrom = lines[0];
    isJson = lines[1].equals("Json");
    List<String> readPaths = new ArrayList<>();
    timeSlot = lines[2].isEmpty() ? -1 : addPath(lines[2], readPaths);
    keySlots = new int[lines.length - 3];
    for (int index = 0; index < keySlots.length; index++) {
      keySlots[index] = addPath(lines[index + 3], readPaths);
    }
    paths = readPaths.toArray(new String[0]);
  }

  /**
   * Whether the key or the event time comes from the value, so that a record without a value (a tombstone) is
   * invalid.
   */
  boolean needsValue() {
    return !keyFrom.equals("KafkaKey") || timeSlot >= 0;
  }

  private int addPath(String path, List<String> readPaths) {
    Node node = root;
    for (String name : path.split("\\.", -1)) {
      node = node.children.computeIfAbsent(name, ignored -> new Node());
    }
    if (node.slot < 0) {
      node.slot = readPaths.size();
      readPaths.add(path);
    }
    return node.slot;
  }

  /** A name in a path: either a field that is read, or an object that holds such fields. */
  static final class Node {
    final Map<String, Node> children = new HashMap<>();
    /** -1 for an object whose children are read. */
    int slot = -1;

    /** Forgets the values that were read below this object. */
    void clear(Object[] values) {
      for (Node child : children.values()) {
        if (child.slot >= 0) {
          values[child.slot] = null;
        } else {
          child.clear(values);
        }
      }
    }
  }
}
