"""Payment providers behind the port."""
