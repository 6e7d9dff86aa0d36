"""What the operator observes, decides and reports, as pure functions: no kopf, no client, no clock, no I/O."""
