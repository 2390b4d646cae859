"""The first hour of somebody who has never seen this: `make bench-first-hour`."""
