"""The JVM that Spark runs in: its process, its memory, and the class archive that it starts from."""
