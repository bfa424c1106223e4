"""What a preview costs the sampler: `python -m safelight.benchmarks`."""
