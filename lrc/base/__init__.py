"""What every room may use: records, progress, threads, resources."""
