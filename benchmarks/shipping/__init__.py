"""Shipping to simulated edge servers: faults, trust, access control, socket handover."""
