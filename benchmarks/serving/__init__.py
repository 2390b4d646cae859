"""`make bench-serving`: our server, others and the bare engine side by side."""
