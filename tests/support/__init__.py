"""What tests share: starting real servers, waiting for conditions. Tests are written elsewhere."""
