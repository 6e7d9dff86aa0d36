"""What the operator thinks, as pure functions over values: no kopf, no client, no clock, no I/O."""
