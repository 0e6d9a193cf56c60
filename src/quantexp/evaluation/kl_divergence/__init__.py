"""KL divergence of a quantized model's distributions from the baseline's, token by token."""
