package dev.streamdedup;

import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.unsafe.types.UTF8String;

/** SQL functions about the text of an event time. The format and the zone are the same for all records of a driver. */
public final class EventTimeFunctions {
  private static volatile Cached cached;

  private EventTimeFunctions() {}

  private static EventTime find(UTF8String format, UTF8String zone) {
    Cached found = cached;
    if (found == null || !found.format.equals(format) || !found.zone.equals(zone)) {
      found = new Cached(format.clone(), zone.clone(), new EventTime(format.toString(), zone.toString()));
      cached = found;
    }
    return found.reader;
  }

  private record Cached(UTF8String format, UTF8String zone, EventTime reader) {}

  /** A function of the text, the format and the zone. */
  private abstract static class TextFunction<T> implements ScalarFunction<T> {
    private static final long serialVersionUID = 1L;

    @Override
    public DataType[] inputTypes() {
      return new DataType[] {DataTypes.StringType, DataTypes.StringType, DataTypes.StringType};
    }
  }

  /** `parse_time(text, format, zone)`: the event time, or null for a text that is not one. */
  public static final class ParseTime extends TextFunction<Long> {
    private static final long serialVersionUID = 1L;

    @Override
    public DataType resultType() {
      return DataTypes.TimestampType;
    }

    @Override
    public String name() {
      return "parse_time";
    }

    public Long invoke(UTF8String text, UTF8String format, UTF8String zone) {
      return text == null ? null : find(format, zone).parse(text);
    }
  }

  /** `describe_time(text, format, zone)`: what a text that is not a time looks like, as the end of a sentence. */
  public static final class DescribeTime extends TextFunction<UTF8String> {
    private static final long serialVersionUID = 1L;

    @Override
    public DataType resultType() {
      return DataTypes.StringType;
    }

    @Override
    public String name() {
      return "describe_time";
    }

    @Override
    public boolean isDeterministic() {
      return false; // it counts, so Spark must not call it twice for a record
    }

    public UTF8String invoke(UTF8String text, UTF8String format, UTF8String zone) {
      EventTime reader = find(format, zone);
      if (reader.isOtherUnit(text.toString())) {
        Plausibility.countOtherUnit();
      }
      return UTF8String.fromString(reader.describe(text.toString()));
    }
  }

  /** `is_zone_guessed(text, format, zone)`: whether the time has no offset and was read as UTC for lack of a zone. */
  public static final class IsZoneGuessed extends TextFunction<Boolean> {
    private static final long serialVersionUID = 1L;

    @Override
    public DataType resultType() {
      return DataTypes.BooleanType;
    }

    @Override
    public String name() {
      return "is_zone_guessed";
    }

    public boolean invoke(UTF8String text, UTF8String format, UTF8String zone) {
      return text != null && find(format, zone).isZoneGuessed(text.toString());
    }
  }
}
