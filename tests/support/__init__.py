"""What tests share: real servers, connections to them, models, and waiting for conditions. There are no tests here."""
