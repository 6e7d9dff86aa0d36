"""The adapters: everything that talks to the API server, to a driver, or to kubelet and Prometheus."""
