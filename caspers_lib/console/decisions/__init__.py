"""What people decide about agents' answers: once, within limits, and for ever on record."""
