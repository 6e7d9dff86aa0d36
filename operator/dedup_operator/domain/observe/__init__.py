"""From raw objects to facts. Nothing in here decides what to do."""
