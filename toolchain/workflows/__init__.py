"""Commands that span both halves: deploy, compare, evaluate, baselines, weights, doctor."""
