"""From raw Kubernetes objects to observed facts. Pure: the objects come from `adapters.fetch`."""
