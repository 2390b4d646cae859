"""What is known of every release and device, in SQL; imported and exported as JSON lines."""
