"""The DedupJob API: the one place that says what a DedupJob is.

The CRD's schema, the operator's input, the driver's `job.json` and the reference page all come from these models, so
none of them can drift from another. Nothing here does I/O or knows kopf, Spark or a Kubernetes client.
"""
