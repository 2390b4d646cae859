"""Records as text for a terminal. Computes nothing."""
