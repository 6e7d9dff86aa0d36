"""The JVM that Spark runs in: its process, its memory, and the archive of classes that it loads at the start."""
