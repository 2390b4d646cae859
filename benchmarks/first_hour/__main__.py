"""`make bench-first-hour`: from an own model to a served one, as somebody does it who has never seen this.

QUICK=1: fewer of each, and the rows say so. ONLY=topic,topic runs some topics; each is a module of its own with
`rows() -> list[Row]`, and a word in TOPICS.
"""

from benchmarks.topics import run_topics

TOPICS = ("init", "pages", "python", "labels", "switch")

if __name__ == "__main__":
    run_topics("benchmarks.first_hour", TOPICS)
