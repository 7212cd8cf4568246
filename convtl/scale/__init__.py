"""What a study of a million trials costs: its rows made up, everything around them measured for real."""
