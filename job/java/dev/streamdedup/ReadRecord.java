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
import org.apache.spark.sql.catalyst.util.ArrayData;
import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.unsafe.types.UTF8String;

/**
 * `read_record(value, key, headers, plan)`: reads a record's bytes once and returns either the event's key (16 bytes) and the
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
  /** Before the JSON of a record of a schema registry: a zero byte, and the schema's id. */
  private static final int FRAME_BYTES = 5;
  private static final DataType HEADERS =
      DataTypes.createArrayType(
          DataTypes.createStructType(
              new StructField[] {
                DataTypes.createStructField("key", DataTypes.StringType, true),
                DataTypes.createStructField("value", DataTypes.BinaryType, true)
              }));
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
    return new DataType[] {DataTypes.BinaryType, DataTypes.BinaryType, HEADERS, DataTypes.StringType};
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
   * key and, when the plan has a field or header for the event time, the time as text. It is empty for a tombstone that
   * passes.
   */
  public InternalRow invoke(byte[] value, byte[] key, ArrayData headers, UTF8String plan) {
    try {
      return read(value, key, headers, findPlan(plan));
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

  private static InternalRow read(byte[] value, byte[] key, ArrayData headers, ReadPlan plan) throws InvalidRecordException {
    if (value == null && plan.tombstone.equals("pass")) {
      return new GenericInternalRow(new Object[] {null, null, null, null});
    }
    if (value == null && (plan.needsValue() || plan.tombstone.equals("invalid"))) {
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
          addKeyField(digest, values[slot], plan.fields.get(slot), value, plan);
        }
        for (UTF8String name : plan.keyHeaders) {
          addPart(digest, value == null ? 'd' : 'h', readBytes(findHeader(headers, name), "the header " + name));
        }
      }
    }
    byte[] eventKey = Arrays.copyOf(digest.digest(), KEY_BYTES);
    return new GenericInternalRow(new Object[] {null, null, eventKey, readTime(values, value, headers, plan)});
  }

  /** The value of the last header with this name; null when there is none, or when it has no value. */
  private static byte[] findHeader(ArrayData headers, UTF8String name) {
    for (int index = headers == null ? -1 : headers.numElements() - 1; index >= 0; index--) {
      InternalRow header = headers.getStruct(index, 2);
      if (!header.isNullAt(0) && header.getUTF8String(0).equals(name)) {
        return header.isNullAt(1) ? null : header.getBinary(1);
      }
    }
    return null;
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

  private static void addKeyField(MessageDigest digest, FieldValue value, ReadPlan.Field field, byte[] record, ReadPlan plan)
      throws InvalidRecordException {
    String what = "the key field " + field.path();
    if (value == null) {
      throw new InvalidRecordException("KeyMissing", what + " is missing" + describeDottedName(record, field, plan));
    }
    switch (value.tag) {
      case FieldValue.NULL -> throw new InvalidRecordException("KeyMissing", what + " is null");
      case FieldValue.NESTED -> throw new InvalidRecordException("KeyUnreadable", what + " is an object or an array");
      default -> {
        if (value.text.isEmpty()) {
          throw new InvalidRecordException("KeyEmpty", what + " is an empty string");
        }
        if (hasUnpairedSurrogate(value.text)) {
          throw new InvalidRecordException("KeyUnreadable", what + " contains an unpaired UTF-16 surrogate");
        }
        addPart(digest, value.tag, value.text.getBytes(StandardCharsets.UTF_8));
      }
    }
  }

  /** Null when the event time comes from elsewhere. */
  private static UTF8String readTime(FieldValue[] values, byte[] record, ArrayData headers, ReadPlan plan) throws InvalidRecordException {
    if (plan.timeHeader != null) {
      return readTimeHeader(headers, plan.timeHeader);
    }
    if (plan.timeSlot < 0) {
      return null;
    }
    FieldValue value = values[plan.timeSlot];
    ReadPlan.Field field = plan.fields.get(plan.timeSlot);
    String what = "the event time field " + field.path();
    if (value == null) {
      throw new InvalidRecordException("TimeMissing", what + " is missing" + describeDottedName(record, field, plan));
    }
    if (value.tag == FieldValue.NULL) {
      throw new InvalidRecordException("TimeMissing", what + " is null");
    }
    if (value.tag == FieldValue.NESTED) {
      throw new InvalidRecordException("TimeUnreadable", what + " is an object or an array");
    }
    return UTF8String.fromString(value.text);
  }

  private static UTF8String readTimeHeader(ArrayData headers, UTF8String name) throws InvalidRecordException {
    byte[] bytes = findHeader(headers, name);
    if (bytes == null) {
      throw new InvalidRecordException("TimeMissing", "the event time header " + name + " is missing");
    }
    UTF8String text = UTF8String.fromBytes(bytes);
    if (!text.isValid()) {
      throw new InvalidRecordException("TimeUnreadable", "the event time header " + name + " is not UTF-8");
    }
    return text;
  }

  /** A hint when the record has a field whose name is a part of the path with its dots, such as `event.id`. */
  private static String describeDottedName(byte[] record, ReadPlan.Field field, ReadPlan plan) {
    String path = DottedNames.suggestPath(JSON, record, findStart(record, plan), field.steps());
    return path == null ? "" : "; the record has a field with dots in its name: write " + path;
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

  /** Where the JSON of a value starts. */
  private static int findStart(byte[] value, ReadPlan plan) {
    return plan.isFramed && value.length >= FRAME_BYTES && value[0] == 0 ? FRAME_BYTES : 0;
  }

  private static boolean looksFramed(byte[] value) {
    int index = FRAME_BYTES;
    while (index < value.length && " \t\r\n".indexOf(value[index]) >= 0) {
      index++;
    }
    return index < value.length && value[0] == 0 && value[index] == '{';
  }

  private static FieldValue[] readJson(byte[] value, ReadPlan plan) throws InvalidRecordException {
    int start = findStart(value, plan);
    int length = value.length - start;
    if (start == 0 && looksFramed(value)) {
      throw new InvalidRecordException(
          "NotJson",
          "five bytes stand before the JSON, as a serializer of a schema registry writes them: set spec.framing to SchemaRegistry");
    }
    if (!UTF8String.fromBytes(value, start, length).isValid()) {
      throw new InvalidRecordException("NotUtf8", "the value is not UTF-8");
    }
    FieldValue[] values = new FieldValue[plan.fields.size()];
    try (JsonParser parser = JSON.createParser(value, start, length)) {
      if (length == 0 || value[start] == (byte) 0xEF || parser.nextToken() != JsonToken.START_OBJECT) {
        throw new InvalidRecordException("NotJson", length == 0 ? "the value is empty" : "the value does not start with a JSON object");
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
      readChild(parser, parser.nextToken(), child, values);
    }
  }

  private static void readArray(JsonParser parser, ReadPlan.Node node, FieldValue[] values) throws IOException {
    JsonToken token = parser.nextToken();
    for (int index = 0; token != JsonToken.END_ARRAY; index++) {
      readChild(parser, token, node.children.get(index), values);
      token = parser.nextToken();
    }
  }

  /** `node` is null for a field that no path leads to. */
  private static void readChild(JsonParser parser, JsonToken token, ReadPlan.Node node, FieldValue[] values) throws IOException {
    if (node == null) {
      parser.skipChildren();
      return;
    }
    if (node.slot >= 0) {
      values[node.slot] = readFieldValue(parser, token);
      return;
    }
    node.clear(values); // of two fields with one name the last one counts, as a whole
    if (token == JsonToken.START_OBJECT && !node.isArray()) {
      readObject(parser, node, values);
    } else if (token == JsonToken.START_ARRAY && node.isArray()) {
      readArray(parser, node, values);
    } else {
      parser.skipChildren();
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
