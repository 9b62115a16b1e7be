"""Engine: the decoding loop and everything that touches tensors."""
