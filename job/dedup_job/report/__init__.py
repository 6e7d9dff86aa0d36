"""What the driver says about itself: status, metrics, and the HTTP server that publishes both."""
