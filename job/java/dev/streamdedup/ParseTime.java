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
 * `parse_time(text, pattern)`: Spark's own parser of datetime patterns, in UTC, with null for every text that is no time. Spark's
 * try_to_timestamp throws for some of them: a pattern takes years of nine digits, which its arithmetic does not.
 */
public final class ParseTime implements ScalarFunction<Long> {
  private static final long serialVersionUID = 1L;

  private transient volatile Known newest;

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

  /** Microseconds. */
  public Long invoke(UTF8String text, UTF8String pattern) {
    try {
      return findFormatter(pattern).parse(text.toString());
    } catch (ParseException | RuntimeException error) {
      return null;
    }
  }

  private TimestampFormatter findFormatter(UTF8String pattern) {
    Known known = newest;
    if (known == null || !known.pattern.equals(pattern)) {
      TimestampFormatter formatter = TimestampFormatter$.MODULE$.apply(pattern.toString(), ZoneOffset.UTC, true);
      known = new Known(pattern.clone(), formatter);
      newest = known;
    }
    return known.formatter;
  }

  private record Known(UTF8String pattern, TimestampFormatter formatter) {}
}
