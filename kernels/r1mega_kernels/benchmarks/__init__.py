"""Times of the kernels beside those of other libraries; `python -m r1mega_kernels.benchmarks --help`."""
