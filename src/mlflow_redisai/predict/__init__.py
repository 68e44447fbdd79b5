"""Predicting: from a user's input to a request, and from the reply to the answer that pyfunc would return."""
