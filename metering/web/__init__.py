"""The page: what has come in, what it costs, who; one customer; operations. It reads and never writes."""
