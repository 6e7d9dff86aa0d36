"""`make demo`: sends a year of flights, with the duplicates that a crashing producer makes, and checks every record."""
