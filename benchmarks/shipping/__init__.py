"""Shipping to edge servers of this machine's own: faults, trust, closed servers, the handover of a socket."""
