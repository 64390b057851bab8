"""What is compiled for, and measured on, an NVIDIA GPU: behind `make gpu-check` and `make gpu-bench`."""
