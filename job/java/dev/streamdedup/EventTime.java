package dev.streamdedup;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.text.ParseException;
import java.time.DateTimeException;
import java.time.ZoneId;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.spark.sql.catalyst.util.DateTimeUtils$;
import org.apache.spark.sql.catalyst.util.TimestampFormatter;
import org.apache.spark.sql.catalyst.util.TimestampFormatter$;
import org.apache.spark.unsafe.types.UTF8String;
import scala.Option;

/**
 * Reads the text or number of an event time. Immutable, so that all tasks share it. All times are microseconds since the
 * epoch; null stands for a text that is not a time.
 */
final class EventTime {
  /** 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z. No later sum overflows for times in this range. */
  private static final long FIRST_SECOND = -62_135_596_800L;
  private static final long LAST_SECOND = 253_402_300_799L;
  private static final long MICROS = 1_000_000L;
  /** Also refuses `1e-999999999`, which would keep a parser of decimal numbers busy for hours. */
  private static final Pattern NUMBER = Pattern.compile("-?[0-9]{1,22}(\\.[0-9]{1,20})?([eE]\\+?[0-9]{1,2})?");
  private static final Map<String, Long> UNITS_PER_SECOND =
      Map.of("EpochSeconds", 1L, "EpochMillis", 1_000L, "EpochMicros", 1_000_000L, "EpochNanos", 1_000_000_000L);

  private static final String DATE = "(?<year>\\d{4})(?<dash>-?)(?<month>\\d{2})\\k<dash>(?<day>\\d{2})";
  private static final String TIME =
      "(?<hour>\\d{2})(?<colon>:?)(?<minute>\\d{2})(?:\\k<colon>(?<second>\\d{2})(?:[.,](?<fraction>\\d{1,18}))?)?";
  private static final String OFFSET = "(?<offset>[Zz]|[+-]\\d{2}(?::?\\d{2})?)?";
  private static final String REGION = "(?:\\[(?<region>[A-Za-z0-9_/+-]+)\\])?";
  /** The forms of ISO 8601 that Spark's own parser does not accept, and those that it does. */
  private static final Pattern ISO = Pattern.compile(DATE + "[Tt ]" + TIME + OFFSET + REGION);
  /** A bare date takes only these offsets: `2024-05-06-10` is not a date in a zone. */
  private static final Pattern ISO_DATE =
      Pattern.compile("(?<year>\\d{4})-(?<month>\\d{2})-(?<day>\\d{2})(?<offset>Z|[+-]\\d{2}:\\d{2})?");
  /** No form of a time is longer. A search in a text of megabytes could take minutes. */
  private static final int MAX_LENGTH = 64;
  private static final Pattern ORDINAL_OR_WEEK_DATE = Pattern.compile("\\d{4}-?(\\d{3}|W\\d{2}(-?\\d)?)([Tt ].*)?");
  private static final Pattern LEAP_SECOND = Pattern.compile("[\\d-]{8,10}[Tt ]\\d{2}:?\\d{2}:?60([.,Zz+-].*)?");
  private static final Pattern HOUR_24 = Pattern.compile("[\\d-]{8,10}[Tt ]24:?\\d{2}.*");

  private final String format;
  private final ZoneId zone;
  private final boolean isZoneGiven;
  /** Null for a format that is not a pattern. */
  private final TimestampFormatter pattern;

  /** `zoneName` is empty when spec.eventTime.timeZone is absent. */
  EventTime(String format, String zoneName) {
    this.format = format;
    isZoneGiven = !zoneName.isEmpty();
    zone = ZoneId.of(isZoneGiven ? zoneName : "UTC");
    boolean isPattern = !format.equals("Iso8601") && !UNITS_PER_SECOND.containsKey(format);
    pattern = isPattern ? TimestampFormatter$.MODULE$.apply(format, zone, true) : null;
  }

  Long parse(UTF8String text) {
    Long micros = pattern != null ? parsePattern(text) : format.equals("Iso8601") ? parseIso(text) : parseEpoch(text.toString());
    return micros == null || !isInRange(Math.floorDiv(micros, MICROS)) ? null : micros;
  }

  private static boolean isInRange(long seconds) {
    return FIRST_SECOND <= seconds && seconds <= LAST_SECOND;
  }

  /** Spark's formatter throws for some texts: its patterns accept years of nine digits, and its arithmetic overflows. */
  private Long parsePattern(UTF8String text) {
    try {
      return pattern.parse(text.toString());
    } catch (ParseException | RuntimeException error) {
      return null;
    }
  }

  private Long parseEpoch(String number) {
    String text = number.endsWith("\n") ? number.substring(0, number.length() - 1) : number;
    if (text.length() > MAX_LENGTH || !NUMBER.matcher(text).matches()) {
      return null;
    }
    long perSecond = UNITS_PER_SECOND.get(format);
    BigDecimal units = new BigDecimal(text).setScale(6, RoundingMode.HALF_UP);
    BigDecimal seconds = units.divide(BigDecimal.valueOf(perSecond), 9, RoundingMode.DOWN);
    if (seconds.compareTo(BigDecimal.valueOf(FIRST_SECOND)) < 0 || seconds.compareTo(BigDecimal.valueOf(LAST_SECOND)) > 0) {
      return null;
    }
    return seconds.multiply(BigDecimal.valueOf(MICROS)).longValue();
  }

  private Long parseIso(UTF8String text) {
    Long micros = parseSpark(text, zone);
    return micros != null ? micros : parseOtherIso(text.toString());
  }

  /**
   * Spark also accepts `now`, `12:30` (today) and years of six digits. A dash as the fifth character requires a year of
   * four digits.
   */
  private static Long parseSpark(UTF8String text, ZoneId zone) {
    if (text.numBytes() < 5 || text.getByte(4) != '-') {
      return null;
    }
    Option<Object> found = DateTimeUtils$.MODULE$.stringToTimestamp(text, zone);
    return found.isEmpty() ? null : (Long) found.get();
  }

  private Long parseOtherIso(String text) {
    if (text.length() > MAX_LENGTH) {
      return null;
    }
    Matcher date = ISO_DATE.matcher(text);
    if (date.matches() && date.group("offset") != null) {
      return parseSpark(UTF8String.fromString(text.substring(0, 10) + "T00:00:00" + date.group("offset")), zone);
    }
    Matcher iso = ISO.matcher(text);
    if (!iso.matches()) {
      return null;
    }
    String second = iso.group("second") == null ? "00" : iso.group("second");
    String fraction = iso.group("fraction") == null ? "" : "." + iso.group("fraction");
    String time = iso.group("hour") + ":" + iso.group("minute") + ":" + second + fraction;
    String offset = iso.group("offset") == null ? "" : iso.group("offset").toUpperCase(Locale.ROOT);
    String extended = iso.group("year") + "-" + iso.group("month") + "-" + iso.group("day") + "T" + time + offset;
    try {
      ZoneId local = iso.group("region") == null ? zone : ZoneId.of(iso.group("region"));
      return parseSpark(UTF8String.fromString(extended), local);
    } catch (DateTimeException error) {
      return null; // an unknown region
    }
  }

  /** What a text that is not a time looks like, as the end of a sentence; empty when nothing is known. Never a part of it. */
  String describe(String text) {
    if (text.length() > MAX_LENGTH) {
      return "; it is longer than any time";
    }
    String trimmed = text.trim();
    if (NUMBER.matcher(trimmed).matches()) {
      return describeNumber(trimmed);
    }
    if ((ISO.matcher(trimmed).matches() || ISO_DATE.matcher(trimmed).matches()) && !format.equals("Iso8601")) {
      return "; it looks like ISO 8601: is spec.eventTime.format Iso8601?";
    }
    if (UNITS_PER_SECOND.containsKey(format)) {
      return "; it is a text, and this format is a number";
    }
    return format.equals("Iso8601") ? describeIso(trimmed) : "";
  }

  private static String describeIso(String text) {
    if (ORDINAL_OR_WEEK_DATE.matcher(text).matches()) {
      return "; ordinal dates and week dates are not supported";
    }
    if (LEAP_SECOND.matcher(text).matches()) {
      return "; the second 60 is not supported";
    }
    return HOUR_24.matcher(text).matches() ? "; the hour 24 is not supported" : "";
  }

  private String describeNumber(String number) {
    String likely = findLikelyFormat(number);
    String unit = likely == null ? null : Map.of("EpochSeconds", "seconds", "EpochMillis", "milliseconds", "EpochMicros", "microseconds",
        "EpochNanos", "nanoseconds").get(likely);
    if (unit == null || likely.equals(format)) {
      return UNITS_PER_SECOND.containsKey(format) ? "" : "; it is a number";
    }
    return "; the number looks like " + unit + " since 1970: is spec.eventTime.format " + likely + "?";
  }

  /** The format in which the number is a time between 2001 and 2065; null when there is none. */
  static String findLikelyFormat(String number) {
    BigDecimal value = new BigDecimal(number);
    for (Map.Entry<String, Long> entry : UNITS_PER_SECOND.entrySet()) {
      BigDecimal seconds = value.divide(BigDecimal.valueOf(entry.getValue()), 0, RoundingMode.DOWN);
      if (seconds.compareTo(BigDecimal.valueOf(1_000_000_000L)) >= 0 && seconds.compareTo(BigDecimal.valueOf(3_000_000_000L)) < 0) {
        return entry.getKey();
      }
    }
    return null;
  }

  /** Whether the number or text is a wrong unit: unreadable, but plausible in another unit. */
  boolean isOtherUnit(String text) {
    String trimmed = text.length() > MAX_LENGTH ? "" : text.trim();
    if (!UNITS_PER_SECOND.containsKey(format) || !NUMBER.matcher(trimmed).matches()) {
      return false;
    }
    String likely = findLikelyFormat(trimmed);
    return likely != null && !likely.equals(format);
  }

  /** Whether the time is written without an offset and no zone is set, so that it was read as UTC. */
  boolean isZoneGuessed(String text) {
    if (isZoneGiven || UNITS_PER_SECOND.containsKey(format) || text.length() > MAX_LENGTH) {
      return false;
    }
    if (pattern != null) {
      return !format.replaceAll("'[^']*'", "").matches(".*[VzOXxZ].*");
    }
    Matcher iso = ISO.matcher(text.trim());
    Matcher date = ISO_DATE.matcher(text.trim());
    return iso.matches() ? iso.group("offset") == null && iso.group("region") == null : date.matches() && date.group("offset") == null;
  }
}
