package dev.streamdedup;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * What of a record is read. Its text, from `dedup_job.stream.parse.build_read_plan`, is lines: where the key is (Fields, KafkaKey, ValueHash), the
 * format (Json, Raw), the path of the event time or nothing, then the paths of the key. No path lies above or below another.
 */
final class ReadPlan {
  final String keyFrom;
  final boolean isJson;
  final String[] paths;
  final int[] keySlots;
  /** -1 where the time is not in the payload. */
  final int timeSlot;

  final Node root = new Node();

  ReadPlan(String text) {
    String[] lines = text.split("\n", -1);
    keyFrom = lines[0];
    isJson = lines[1].equals("Json");
    List<String> found = new ArrayList<>();
    timeSlot = lines[2].isEmpty() ? -1 : addPath(lines[2], found);
    keySlots = new int[lines.length - 3];
    for (int index = 0; index < keySlots.length; index++) {
      keySlots[index] = addPath(lines[index + 3], found);
    }
    paths = found.toArray(new String[0]);
  }

  /** Whether a tombstone has no key or no time. */
  boolean needsValue() {
    return !keyFrom.equals("KafkaKey") || timeSlot >= 0;
  }

  private int addPath(String path, List<String> found) {
    Node node = root;
    for (String name : path.split("\\.", -1)) {
      node = node.children.computeIfAbsent(name, ignored -> new Node());
    }
    if (node.slot < 0) {
      node.slot = found.size();
      found.add(path);
    }
    return node.slot;
  }

  /** A name on the way to what is read. */
  static final class Node {
    final Map<String, Node> children = new HashMap<>();
    /** -1 for an object that is followed further. */
    int slot = -1;

    void clear(Object[] leaves) {
      for (Node child : children.values()) {
        if (child.slot >= 0) {
          leaves[child.slot] = null;
        } else {
          child.clear(leaves);
        }
      }
    }
  }
}
