"""Webhooks: verified, stored by event id, answered at once, processed after by the rounds."""
