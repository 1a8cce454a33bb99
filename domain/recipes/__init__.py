"""What can be asked for: the catalog of models and job types, parameters, and the recipe that a job keeps."""
