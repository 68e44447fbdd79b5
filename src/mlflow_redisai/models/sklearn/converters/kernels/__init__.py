"""Models of kernels: support vector machines and Gaussian processes."""
