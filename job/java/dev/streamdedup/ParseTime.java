package dev.streamdedup;

import java.text.ParseException;
import java.time.ZoneOffset;
import org.apache.spark.sql.catalyst.util.TimestampFormatter;
import org.apache.spark.sql.catalyst.util.TimestampFormatter$;
import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.unsafe.types.UTF8String;

/**
 * `parse_time(text, pattern)`: parses a time with Spark's own parser of datetime patterns, in UTC. Returns null for
 * every text that is not a time. Spark's try_to_timestamp throws an exception for some texts: its patterns accept
 * years of nine digits, and its arithmetic overflows for those.
 */
public final class ParseTime implements ScalarFunction<Long> {
  private static final long serialVersionUID = 1L;

  /** The formatter of the last call. The pattern is the same for all records of a driver. */
  private transient volatile CachedFormatter cached;

  @Override
  public DataType[] inputTypes() {
    return new DataType[] {DataTypes.StringType, DataTypes.StringType};
  }

  @Override
  public DataType resultType() {
    return DataTypes.TimestampType;
  }

  @Override
  public String name() {
    return "parse_time";
  }

  /** Microseconds since the epoch. */
  public Long invoke(UTF8String text, UTF8String pattern) {
    try {
      return findFormatter(pattern).parse(text.toString());
    } catch (ParseException | RuntimeException error) {
      return null;
    }
  }

  private TimestampFormatter findFormatter(UTF8String pattern) {
    CachedFormatter found = cached;
    if (found == null || !found.pattern.equals(pattern)) {
      TimestampFormatter formatter = TimestampFormatter$.MODULE$.apply(pattern.toString(), ZoneOffset.UTC, true);
      found = new CachedFormatter(pattern.clone(), formatter);
      cached = found;
    }
    return found.formatter;
  }

  private record CachedFormatter(UTF8String pattern, TimestampFormatter formatter) {}
}
