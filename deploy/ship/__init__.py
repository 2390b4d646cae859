"""Rolls releases out to edge servers: send, gate, switch, roll back."""
