"""A second backend of the executor: the workers of a dask.distributed cluster."""
