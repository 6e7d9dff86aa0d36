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
 * `read_record(value, key, plan)`: reads a record's bytes once and returns either the event's key (16 bytes) and the
 * text of its event time, or the reason why the record is invalid. It never throws an exception, whatever the bytes
 * are.
 *
 * <p>docs/decisions/0002-key-encoding.md describes the encoding of keys. {@link ReadPlan} describes the text of the
 * plan. The detail of an invalid record never contains a part of the record, because it is shown in logs and
 * conditions.
 */
public final class ReadRecord implements ScalarFunction<InternalRow> {
  private static final long serialVersionUID = 1L;

  private static final int KEY_BYTES = 16;
  private static final int MAX_NESTING = 1000;
  private static final JsonFactory JSON =
      new JsonFactoryBuilder()
          .disable(JsonFactory.Feature.CHARSET_DETECTION) // only UTF-8 is accepted
          .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
          .disable(JsonFactory.Feature.FAIL_ON_SYMBOL_HASH_OVERFLOW) // many names with one hash are slow, but valid
          .streamReadConstraints(
              StreamReadConstraints.builder()
                  .maxNestingDepth(MAX_NESTING)
                  .maxStringLength(Integer.MAX_VALUE)
                  .maxNameLength(Integer.MAX_VALUE)
                  .maxNumberLength(Integer.MAX_VALUE) // numbers are copied as text, never computed
                  .build())
          .build();
  private static final ThreadLocal<MessageDigest> SHA256 = ThreadLocal.withInitial(ReadRecord::openDigest);

  /** The plan of the last call. The plan is the same for all records of a driver. */
  private transient volatile CachedPlan cached;

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

  /**
   * Spark's generated code calls this. The row holds fault and detail for an invalid record. Otherwise it holds the
   * key and, when the plan has a field for the event time, the time as text.
   */
  public InternalRow invoke(byte[] value, byte[] key, UTF8String plan) {
    try {
      return read(value, key, findPlan(plan));
    } catch (InvalidRecordException error) {
      return new GenericInternalRow(
          new Object[] {UTF8String.fromString(error.fault), UTF8String.fromString(error.getMessage()), null, null});
    }
  }

  private ReadPlan findPlan(UTF8String text) {
    CachedPlan found = cached;
    if (found == null || !found.text.equals(text)) {
      found = new CachedPlan(text.clone(), new ReadPlan(text.toString()));
      cached = found;
    }
    return found.plan;
  }

  private static InternalRow read(byte[] value, byte[] key, ReadPlan plan) throws InvalidRecordException {
    if (value == null && plan.needsValue()) {
      throw new InvalidRecordException("Tombstone", "the record has no value");
    }
    FieldValue[] values = value != null && plan.isJson ? readJson(value, plan) : new FieldValue[0];
    MessageDigest digest = SHA256.get();
    digest.reset();
    switch (plan.keyFrom) {
      case "KafkaKey" -> addPart(digest, value == null ? 't' : 'k', readBytes(key, "the Kafka key"));
      case "ValueHash" -> addPart(digest, 'v', readBytes(value, "the value"));
      default -> {
        for (int slot : plan.keySlots) {
          addKeyField(digest, values[slot], plan.paths[slot]);
        }
      }
    }
    byte[] eventKey = Arrays.copyOf(digest.digest(), KEY_BYTES);
    UTF8String time = plan.timeSlot < 0 ? null : readTime(values[plan.timeSlot], plan.paths[plan.timeSlot]);
    return new GenericInternalRow(new Object[] {null, null, eventKey, time});
  }

  private static byte[] readBytes(byte[] bytes, String what) throws InvalidRecordException {
    if (bytes == null) {
      throw new InvalidRecordException("KeyMissing", what + " is missing");
    }
    if (bytes.length == 0) {
      throw new InvalidRecordException("KeyEmpty", what + " is empty");
    }
    return bytes;
  }

  private static void addKeyField(MessageDigest digest, FieldValue field, String path) throws InvalidRecordException {
    if (field == null) {
      throw new InvalidRecordException("KeyMissing", "the key field " + path + " is missing");
    }
    switch (field.tag) {
      case FieldValue.NULL -> throw new InvalidRecordException("KeyMissing", "the key field " + path + " is null");
      case FieldValue.NESTED -> throw new InvalidRecordException("KeyUnreadable", "the key field " + path + " is an object or an array");
      default -> {
        if (field.text.isEmpty()) {
          throw new InvalidRecordException("KeyEmpty", "the key field " + path + " is an empty string");
        }
        if (hasUnpairedSurrogate(field.text)) {
          throw new InvalidRecordException("KeyUnreadable", "the key field " + path + " contains an unpaired UTF-16 surrogate");
        }
        addPart(digest, field.tag, field.text.getBytes(StandardCharsets.UTF_8));
      }
    }
  }

  private static UTF8String readTime(FieldValue field, String path) throws InvalidRecordException {
    if (field == null || field.tag == FieldValue.NULL) {
      throw new InvalidRecordException("TimeMissing", "the event time field " + path + (field == null ? " is missing" : " is null"));
    }
    if (field.tag == FieldValue.NESTED) {
      throw new InvalidRecordException("TimeUnreadable", "the event time field " + path + " is an object or an array");
    }
    return UTF8String.fromString(field.text);
  }

  /** Adds one part of the key's text to the hash: tag, length in bytes, colon, bytes. */
  private static void addPart(MessageDigest digest, char tag, byte[] bytes) {
    digest.update((tag + Integer.toString(bytes.length) + ":").getBytes(StandardCharsets.US_ASCII));
    digest.update(bytes);
  }

  private static boolean hasUnpairedSurrogate(String text) {
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

  private static FieldValue[] readJson(byte[] value, ReadPlan plan) throws InvalidRecordException {
    if (!UTF8String.fromBytes(value).isValid()) {
      throw new InvalidRecordException("NotUtf8", "the value is not UTF-8");
    }
    FieldValue[] values = new FieldValue[plan.paths.length];
    try (JsonParser parser = JSON.createParser(value)) {
      if (value.length == 0 || value[0] == (byte) 0xEF || parser.nextToken() != JsonToken.START_OBJECT) {
        throw new InvalidRecordException("NotJson", value.length == 0 ? "the value is empty" : "the value does not start with a JSON object");
      }
      readObject(parser, plan.root, values);
      if (parser.nextToken() != null) {
        throw new InvalidRecordException("NotJson", "the value continues after its JSON object");
      }
    } catch (StreamConstraintsException error) {
      throw new InvalidRecordException("NotJson", "the value is nested deeper than " + MAX_NESTING + " levels");
    } catch (JsonProcessingException error) {
      throw new InvalidRecordException("NotJson", "the value is not valid JSON at byte " + error.getLocation().getByteOffset());
    } catch (IOException error) {
      throw new IllegalStateException("a byte array was not readable", error);
    }
    return values;
  }

  private static void readObject(JsonParser parser, ReadPlan.Node node, FieldValue[] values) throws IOException {
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      ReadPlan.Node child = node.children.get(parser.currentName());
      JsonToken token = parser.nextToken();
      if (child == null) {
        parser.skipChildren();
      } else if (child.slot >= 0) {
        values[child.slot] = readFieldValue(parser, token);
      } else {
        child.clear(values); // of two fields with one name the last one counts, as a whole
        if (token == JsonToken.START_OBJECT) {
          readObject(parser, child, values);
        } else {
          parser.skipChildren();
        }
      }
    }
  }

  private static FieldValue readFieldValue(JsonParser parser, JsonToken token) throws IOException {
    return switch (token) {
      case VALUE_STRING -> new FieldValue('s', parser.getText());
      case VALUE_NUMBER_INT, VALUE_NUMBER_FLOAT -> new FieldValue('n', parser.getText());
      case VALUE_TRUE -> new FieldValue('b', "true");
      case VALUE_FALSE -> new FieldValue('b', "false");
      case VALUE_NULL -> new FieldValue(FieldValue.NULL, "");
      default -> {
        parser.skipChildren();
        yield new FieldValue(FieldValue.NESTED, "");
      }
    };
  }

  private static MessageDigest openDigest() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException("the Java runtime has no SHA-256", error);
    }
  }

  private record CachedPlan(UTF8String text, ReadPlan plan) {}

  /** The value of a field of the payload. A number keeps the digits that the producer wrote. */
  private record FieldValue(char tag, String text) {
    static final char NULL = '0';
    static final char NESTED = '[';
  }

  private static final class InvalidRecordException extends Exception {
    private static final long serialVersionUID = 1L;
    private final String fault;

    InvalidRecordException(String fault, String detail) {
      super(detail, null, false, false); // no stack trace: there can be millions of invalid records
      this.fault = fault;
    }
  }
}
