"""Tier T4 (`make test-gpu`): what any NVIDIA GPU with CUDA 13 shows of our runtime. Without one every test is skipped,
with the reason."""
