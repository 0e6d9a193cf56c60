"""llama.cpp as it was compiled: its files, the processor that it runs on, and a trial before its first use.

Nothing here imports llama_cpp: a library that was compiled for another processor ends the process that does.
"""
