package dev.streamdedup;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Finds out why a path such as `event.id` leads to nothing: the record has a field with that very name. It reads the record
 * a second time, which only invalid records cost.
 */
final class DottedNames {
  /** A name that needs no brackets and quotes. */
  private static final Pattern BARE = Pattern.compile("[^.\\s`\"'\\[\\]\\\\]+");

  private DottedNames() {}

  /**
   * The path that leads to a field whose name consists of several steps, joined by dots, and on from there; null when the
   * record has no such field. `start`: where the JSON starts in the record.
   */
  static String suggestPath(JsonFactory json, byte[] record, int start, List<Object> steps) {
    try (JsonParser parser = json.createParser(record, start, record.length - start)) {
      int[] found = parser.nextToken() == JsonToken.START_OBJECT ? findInObject(parser, steps, 0) : null;
      return found == null ? null : write(steps, found[0], found[1]);
    } catch (IOException error) {
      return null; // the record has been read before, so this only ends a hint
    }
  }

  /** The first step of the name and the first one behind it; null when there is none. `depth`: steps above this object. */
  private static int[] findInObject(JsonParser parser, List<Object> steps, int depth) throws IOException {
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      String name = parser.currentName();
      parser.nextToken();
      int end = findEnd(name, steps, depth);
      if (end > 0) {
        return new int[] {depth, end};
      }
      int[] found = depth < steps.size() && name.equals(steps.get(depth)) ? findBelow(parser, steps, depth + 1) : skip(parser);
      if (found != null) {
        return found;
      }
    }
    return null;
  }

  /** Searches the value at which the parser is. */
  private static int[] findBelow(JsonParser parser, List<Object> steps, int depth) throws IOException {
    if (parser.currentToken() == JsonToken.START_OBJECT) {
      return findInObject(parser, steps, depth);
    }
    if (parser.currentToken() != JsonToken.START_ARRAY || depth >= steps.size() || !(steps.get(depth) instanceof Integer position)) {
      return skip(parser);
    }
    for (int index = 0; parser.nextToken() != JsonToken.END_ARRAY; index++) {
      int[] found = index == position ? findBelow(parser, steps, depth + 1) : skip(parser);
      if (found != null) {
        return found;
      }
    }
    return null;
  }

  private static int[] skip(JsonParser parser) throws IOException {
    parser.skipChildren();
    return null;
  }

  /** The first step behind those that make up the name, which are two or more; 0 when the name is another one. */
  private static int findEnd(String name, List<Object> steps, int depth) {
    StringBuilder joined = new StringBuilder();
    for (int index = depth; index < steps.size() && steps.get(index) instanceof String step; index++) {
      joined.append(index == depth ? "" : ".").append(step);
      if (index > depth && name.contentEquals(joined)) {
        return index + 1;
      }
    }
    return 0;
  }

  /** The path with the steps from `begin` to `end` as one name; in the form that `dedup_api.paths` reads. */
  private static String write(List<Object> steps, int begin, int end) {
    StringBuilder path = new StringBuilder();
    for (int index = 0; index < steps.size(); index++) {
      Object step = steps.get(index);
      if (index == begin) {
        step = steps.subList(begin, end).stream().map(Object::toString).collect(Collectors.joining("."));
        index = end - 1;
      }
      if (step instanceof Integer) {
        path.append('[').append(step).append(']');
      } else if (BARE.matcher((String) step).matches()) {
        path.append(path.isEmpty() ? "" : ".").append(step);
      } else {
        String quote = ((String) step).contains("'") ? "\"" : "'";
        path.append('[').append(quote).append(step).append(quote).append(']');
      }
    }
    return path.toString();
  }
}
