"""Trying a conversion on this machine before it is believed."""
