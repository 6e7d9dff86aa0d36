"""The control plane: turns DedupJobs into supervised Spark drivers.

Layers, each of which imports only what stands to its right: handlers | reconcile | adapters | domain. Only `handlers` knows kopf.
"""
