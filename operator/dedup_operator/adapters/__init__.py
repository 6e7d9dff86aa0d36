"""The edges: everything that talks to the API server, to a driver or to whoever watches the operator."""
