"""Kernels: one block of numbers -> one partial result."""
