"""The operator: runs and supervises one Spark driver for each DedupJob.

Layers, from top to bottom: handlers, reconcile, adapters, domain. A layer imports only from the layers below it. Only
`handlers` imports kopf.
"""
