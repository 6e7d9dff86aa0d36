package dev.streamdedup;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.exc.StreamConstraintsException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.GenericInternalRow;
import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.unsafe.types.UTF8String;

/**
 * `read_record(value, key, plan)`: one pass over a record, from its bytes to the event's key (16 bytes) and the text of its time, or to
 * what is wrong with it. No record makes it throw, whatever its bytes.
 *
 * <p>The encoding of keys is that of docs/decisions/0002-key-encoding.md; the plan is {@link ReadPlan}'s text. Details never hold anything
 * of the record itself: they go to logs and conditions.
 */
public final class ReadRecord implements ScalarFunction<InternalRow> {
  private static final long serialVersionUID = 1L;

  private static final int KEY_BYTES = 16;
  private static final int DEEPEST = 1000;
  private static final JsonFactory JSON =
      new JsonFactoryBuilder()
          .disable(JsonFactory.Feature.CHARSET_DETECTION) // UTF-8 or nothing
          .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
          .disable(JsonFactory.Feature.FAIL_ON_SYMBOL_HASH_OVERFLOW) // names that collide are slow, not wrong
          .streamReadConstraints(
              StreamReadConstraints.builder()
                  .maxNestingDepth(DEEPEST)
                  .maxStringLength(Integer.MAX_VALUE)
                  .maxNameLength(Integer.MAX_VALUE)
                  .maxNumberLength(Integer.MAX_VALUE) // numbers are only copied
                  .build())
          .build();
  private static final ThreadLocal<MessageDigest> SHA256 = ThreadLocal.withInitial(ReadRecord::openDigest);

  private transient volatile Known newest;

  @Override
  public DataType[] inputTypes() {
    return new DataType[] {DataTypes.BinaryType, DataTypes.BinaryType, DataTypes.StringType};
  }

  @Override
  public DataType resultType() {
    return DataTypes.createStructType(
        new StructField[] {
          DataTypes.createStructField("fault", DataTypes.StringType, true),
          DataTypes.createStructField("detail", DataTypes.StringType, true),
          DataTypes.createStructField("key", DataTypes.BinaryType, true),
          DataTypes.createStructField("time", DataTypes.StringType, true)
        });
  }

  @Override
  public String name() {
    return "read_record";
  }

  /** Called by Spark's generated code. The row: fault and detail, or key and (where the plan has a field for it) the time as text. */
  public InternalRow invoke(byte[] value, byte[] key, UTF8String plan) {
    try {
      return read(value, key, findPlan(plan));
    } catch (Unreadable error) {
      return new GenericInternalRow(
          new Object[] {UTF8String.fromString(error.fault), UTF8String.fromString(error.getMessage()), null, null});
    }
  }

  private ReadPlan findPlan(UTF8String text) {
    Known known = newest;
    if (known == null || !known.text.equals(text)) {
      known = new Known(text.clone(), new ReadPlan(text.toString()));
      newest = known;
    }
    return known.plan;
  }

  private static InternalRow read(byte[] value, byte[] key, ReadPlan plan) throws Unreadable {
    if (value == null && plan.needsValue()) {
      throw new Unreadable("Tombstone", "the record has no value");
    }
    Leaf[] leaves = value != null && plan.isJson ? readJson(value, plan) : new Leaf[0];
    MessageDigest digest = SHA256.get();
    digest.reset();
    switch (plan.keyFrom) {
      case "KafkaKey" -> add(digest, value == null ? 't' : 'k', readBytes(key, "the Kafka key"));
      case "ValueHash" -> add(digest, 'v', readBytes(value, "the value"));
      default -> {
        for (int slot : plan.keySlots) {
          addLeaf(digest, leaves[slot], plan.paths[slot]);
        }
      }
    }
    byte[] found = Arrays.copyOf(digest.digest(), KEY_BYTES);
    UTF8String time = plan.timeSlot < 0 ? null : readTime(leaves[plan.timeSlot], plan.paths[plan.timeSlot]);
    return new GenericInternalRow(new Object[] {null, null, found, time});
  }

  private static byte[] readBytes(byte[] bytes, String what) throws Unreadable {
    if (bytes == null) {
      throw new Unreadable("KeyMissing", what + " is missing");
    }
    if (bytes.length == 0) {
      throw new Unreadable("KeyEmpty", what + " is empty");
    }
    return bytes;
  }

  private static void addLeaf(MessageDigest digest, Leaf leaf, String path) throws Unreadable {
    if (leaf == null) {
      throw new Unreadable("KeyMissing", "the key field " + path + " is missing");
    }
    switch (leaf.tag) {
      case Leaf.NULL -> throw new Unreadable("KeyMissing", "the key field " + path + " is null");
      case Leaf.NESTED -> throw new Unreadable("KeyUnreadable", "the key field " + path + " is an object or a list");
      default -> {
        if (leaf.text.isEmpty()) {
          throw new Unreadable("KeyEmpty", "the key field " + path + " is an empty text");
        }
        if (hasHalfPair(leaf.text)) {
          throw new Unreadable("KeyUnreadable", "the key field " + path + " holds half a surrogate pair");
        }
        add(digest, leaf.tag, leaf.text.getBytes(StandardCharsets.UTF_8));
      }
    }
  }

  private static UTF8String readTime(Leaf leaf, String path) throws Unreadable {
    if (leaf == null || leaf.tag == Leaf.NULL) {
      throw new Unreadable("TimeMissing", "the event time field " + path + (leaf == null ? " is missing" : " is null"));
    }
    if (leaf.tag == Leaf.NESTED) {
      throw new Unreadable("TimeUnreadable", "the event time field " + path + " is an object or a list");
    }
    return UTF8String.fromString(leaf.text);
  }

  /** One part of the key's text: tag, length in bytes, colon, bytes. */
  private static void add(MessageDigest digest, char tag, byte[] bytes) {
    digest.update((tag + Integer.toString(bytes.length) + ":").getBytes(StandardCharsets.US_ASCII));
    digest.update(bytes);
  }

  private static boolean hasHalfPair(String text) {
    for (int index = 0; index < text.length(); index++) {
      if (Character.isSurrogate(text.charAt(index))) {
        boolean pair =
            Character.isHighSurrogate(text.charAt(index))
                && index + 1 < text.length()
                && Character.isLowSurrogate(text.charAt(index + 1));
        if (!pair) {
          return true;
        }
        index++;
      }
    }
    return false;
  }

  private static Leaf[] readJson(byte[] value, ReadPlan plan) throws Unreadable {
    if (!UTF8String.fromBytes(value).isValid()) {
      throw new Unreadable("NotUtf8", "the value is not UTF-8");
    }
    Leaf[] leaves = new Leaf[plan.paths.length];
    try (JsonParser parser = JSON.createParser(value)) {
      if (value.length == 0 || value[0] == (byte) 0xEF || parser.nextToken() != JsonToken.START_OBJECT) {
        throw new Unreadable("NotJson", value.length == 0 ? "the value is empty" : "the value does not begin with a JSON object");
      }
      readObject(parser, plan.root, leaves);
      if (parser.nextToken() != null) {
        throw new Unreadable("NotJson", "the JSON object is followed by something else");
      }
    } catch (StreamConstraintsException error) {
      throw new Unreadable("NotJson", "the value is nested deeper than " + DEEPEST + " levels");
    } catch (JsonProcessingException error) {
      throw new Unreadable("NotJson", "the value is not JSON from byte " + error.getLocation().getByteOffset());
    } catch (IOException error) {
      throw new IllegalStateException("bytes in memory cannot fail to be read", error);
    }
    return leaves;
  }

  private static void readObject(JsonParser parser, ReadPlan.Node node, Leaf[] leaves) throws IOException {
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      ReadPlan.Node child = node.children.get(parser.currentName());
      JsonToken token = parser.nextToken();
      if (child == null) {
        parser.skipChildren();
      } else if (child.slot >= 0) {
        leaves[child.slot] = readLeaf(parser, token);
      } else {
        child.clear(leaves); // of two fields of one name the last counts, as a whole
        if (token == JsonToken.START_OBJECT) {
          readObject(parser, child, leaves);
        } else {
          parser.skipChildren();
        }
      }
    }
  }

  private static Leaf readLeaf(JsonParser parser, JsonToken token) throws IOException {
    return switch (token) {
      case VALUE_STRING -> new Leaf('s', parser.getText());
      case VALUE_NUMBER_INT, VALUE_NUMBER_FLOAT -> new Leaf('n', parser.getText());
      case VALUE_TRUE -> new Leaf('b', "true");
      case VALUE_FALSE -> new Leaf('b', "false");
      case VALUE_NULL -> new Leaf(Leaf.NULL, "");
      default -> {
        parser.skipChildren();
        yield new Leaf(Leaf.NESTED, "");
      }
    };
  }

  private static MessageDigest openDigest() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException("every Java has SHA-256", error);
    }
  }

  private record Known(UTF8String text, ReadPlan plan) {}

  /** A value of the payload; numbers keep the digits they were written with. */
  private record Leaf(char tag, String text) {
    static final char NULL = '0';
    static final char NESTED = '[';
  }

  private static final class Unreadable extends Exception {
    private static final long serialVersionUID = 1L;
    private final String fault;

    Unreadable(String fault, String detail) {
      super(detail, null, false, false); // records like this can come by the million
      this.fault = fault;
    }
  }
}
