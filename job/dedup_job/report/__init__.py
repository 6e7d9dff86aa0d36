"""What the driver reports about itself: status, metrics, and the HTTP server that publishes both."""
