"""Releases on edge servers: brought there, judged there, switched to and back. Knows no torch and no recipes."""
