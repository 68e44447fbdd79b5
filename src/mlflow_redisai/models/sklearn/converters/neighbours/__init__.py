"""Neighbours: distances, the nearest ones, and those within a radius."""
