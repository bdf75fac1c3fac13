"""What each command does: functions of an Invocation that return an exit code."""
