"""What must always hold in production, checked while it runs."""
