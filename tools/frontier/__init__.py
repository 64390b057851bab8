"""The evidence of docs/frontier.md: schedules against exact training of equal time, arm by arm and seed by seed."""
