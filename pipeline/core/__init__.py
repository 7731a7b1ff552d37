"""What we decide. Pure: no I/O, no clock, no framework; time and bytes are arguments."""
