"""Spans of OpenTelemetry, which requests over HTTP and Redis' protocol become."""
