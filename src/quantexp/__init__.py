"""quantexp measures what quantization costs a language model."""
