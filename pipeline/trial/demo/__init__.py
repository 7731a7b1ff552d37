"""The demo's job: a real classifier on real images."""
