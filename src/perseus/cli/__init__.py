"""What a person types and sees (floor 10); ``fast`` is where the command begins."""
