"""What is written to topics and read back from them: output, snapshots, followed tables."""
