"""What a Roboflow Inference server and its workflows send and ask, at their paths and in their words."""
