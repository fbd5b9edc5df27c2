"""The whole jobs, from files to files: train, segment, evaluate, soften."""
