"""What can be removed from a network together, what matters least, and the cut."""
