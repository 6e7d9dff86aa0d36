package dev.streamdedup;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.spark.unsafe.types.UTF8String;

/**
 * Which parts of a record {@link ReadRecord} reads.
 *
 * <p>`dedup_job.stream.parse.build_read_plan` writes the plan as JSON: `keyFrom`, `isJson`, `isFramed`, `tombstone`
 * (invalid, pass, or empty for the default), `fields` and `headers` of the key, and `timeField` or `timeHeader`. A field is
 * the path as the user wrote it and its steps: names, and positions in arrays. No path leads through the end of another
 * one: the operator and the driver have refused that.
 */
final class ReadPlan {
  final String keyFrom;
  final boolean isJson;
  final boolean isFramed;
  final String tombstone;
  /** By slot. A slot is the position of a field that is read; the fields' values are stored by slot, too. */
  final List<Field> fields = new ArrayList<>();
  final int[] keySlots;
  final UTF8String[] keyHeaders;
  /** -1 when the event time is not in the payload. */
  final int timeSlot;
  /** Null when the event time is not in a header. */
  final UTF8String timeHeader;

  final Node root = new Node();

  ReadPlan(String text) {
    JsonNode plan = parse(text);
    keyFrom = plan.get("keyFrom").asText();
    isJson = plan.get("isJson").asBoolean();
    isFramed = plan.get("isFramed").asBoolean();
    tombstone = plan.get("tombstone").asText();
    timeSlot = plan.hasNonNull("timeField") ? addField(plan.get("timeField")) : -1;
    timeHeader = plan.hasNonNull("timeHeader") ? UTF8String.fromString(plan.get("timeHeader").asText()) : null;
    keySlots = new int[plan.get("fields").size()];
    for (int index = 0; index < keySlots.length; index++) {
      keySlots[index] = addField(plan.get("fields").get(index));
    }
    keyHeaders = new UTF8String[plan.get("headers").size()];
    for (int index = 0; index < keyHeaders.length; index++) {
      keyHeaders[index] = UTF8String.fromString(plan.get("headers").get(index).asText());
    }
  }

  /** Whether the key or the event time comes from the value. */
  boolean needsValue() {
    return keyFrom.equals("Fields") || keyFrom.equals("ValueHash") || timeSlot >= 0;
  }

  private static JsonNode parse(String text) {
    try {
      return new ObjectMapper().readTree(text);
    } catch (JsonProcessingException error) {
      throw new IllegalArgumentException("the plan is not JSON", error);
    }
  }

  private int addField(JsonNode field) {
    Node node = root;
    List<Object> steps = new ArrayList<>();
    for (JsonNode step : field.get("steps")) {
      Object key = step.isInt() ? (Object) step.asInt() : step.asText();
      steps.add(key);
      node = node.children.computeIfAbsent(key, ignored -> new Node());
    }
    if (node.slot < 0) {
      node.slot = fields.size();
      fields.add(new Field(field.get("path").asText(), steps));
    }
    return node.slot;
  }

  /** A field of the payload. `steps` are names (String) and positions in arrays (Integer). */
  record Field(String path, List<Object> steps) {}

  /** A step of a path: a field that is read, or an object or array that holds such fields. */
  static final class Node {
    /** By name (String) for an object, by position (Integer) for an array. */
    final Map<Object, Node> children = new HashMap<>();
    /** -1 for an object or array whose children are read. */
    int slot = -1;

    boolean isArray() {
      return children.keySet().iterator().next() instanceof Integer;
    }

    /** Forgets the values that were read below this object or array. */
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
