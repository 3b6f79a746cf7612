"""What a stage may minimise: a class for each kind of objective, a file for each family."""
