"""This machine: its CPU and GPU, the control group's limits, energy, its key and its state folder."""
