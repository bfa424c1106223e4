"""Stores of runs beyond this machine: any address that fsspec can open, such as `s3://bucket/runs`."""
