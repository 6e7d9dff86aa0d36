package dev.streamdedup;

import org.apache.spark.sql.catalyst.analysis.NoSuchFunctionException;
import org.apache.spark.sql.connector.catalog.FunctionCatalog;
import org.apache.spark.sql.connector.catalog.Identifier;
import org.apache.spark.sql.connector.catalog.functions.BoundFunction;
import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.connector.catalog.functions.UnboundFunction;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * The driver's SQL functions. Where `spark.sql.catalog.<catalog>` names this class, SQL calls one as
 * `<catalog>.<name>(…)`. Spark's generated code calls their `invoke` methods directly, without building a row of the
 * arguments.
 */
public final class Functions implements FunctionCatalog {
  private static final ScalarFunction<?>[] ALL = {
    new ReadRecord(),
    new EventTimeFunctions.ParseTime(),
    new EventTimeFunctions.DescribeTime(),
    new EventTimeFunctions.IsZoneGuessed(),
    new Plausibility.NoteStored(),
    new BatchTimes.IsLate(),
    new BatchTimes.Arrival()
  };

  private String catalog;

  @Override
  public void initialize(String name, CaseInsensitiveStringMap options) {
    catalog = name;
  }

  @Override
  public String name() {
    return catalog;
  }

  @Override
  public Identifier[] listFunctions(String[] namespace) {
    Identifier[] identifiers = new Identifier[ALL.length];
    for (int index = 0; index < ALL.length; index++) {
      identifiers[index] = Identifier.of(new String[0], ALL[index].name());
    }
    return identifiers;
  }

  @Override
  public UnboundFunction loadFunction(Identifier identifier) throws NoSuchFunctionException {
    for (ScalarFunction<?> function : ALL) {
      if (function.name().equals(identifier.name())) {
        return new UnboundScalar(function);
      }
    }
    throw new NoSuchFunctionException(identifier);
  }

  private record UnboundScalar(ScalarFunction<?> function) implements UnboundFunction {
    @Override
    public BoundFunction bind(StructType inputType) {
      return function;
    }

    @Override
    public String name() {
      return function.name();
    }

    @Override
    public String description() {
      return function.name();
    }
  }
}
