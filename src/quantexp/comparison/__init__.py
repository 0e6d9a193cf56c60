"""Job records in, a Summary out."""
