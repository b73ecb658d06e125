"""Merging across processes and machines, through the engines that run them."""
