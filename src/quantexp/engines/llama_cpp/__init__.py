"""llama.cpp as an engine, in this process."""
