"""What the device says of itself: checks, measured latencies, the chosen precision, the certificate."""
