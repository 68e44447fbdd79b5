"""Deploying: from a model URI to a model that the server has run and whose answers are correct."""
