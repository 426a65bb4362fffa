"""What runs in `make test-kernels`, inside each kernel that is booted, and what is written from it."""
