#!/bin/sh
# Formats the volume on first use (keeps it afterwards), then becomes the broker.
set -eu
config=/opt/kafka/server.properties
if [ ! -e /data/log/meta.properties ]; then
    java -Xmx128m -XX:TieredStopAtLevel=1 -cp '/opt/kafka/lib/*' kafka.tools.StorageTool \
        format --cluster-id dGVzdGJlZC1rYWZrYS0wMQ --config "$config"
fi
exec java -Xms256m -Xmx900m -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp '/opt/kafka/lib/*' kafka.Kafka "$config"
