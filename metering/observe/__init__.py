"""What a running worker or sink says about itself: metrics, health, logs."""
