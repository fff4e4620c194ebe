"""A data set -> a checkpoint.

log         the figures of each epoch, in a file
store       the address of an mlflow store, and what to say when it fails
tracking    the same figures and the run's files in mlflow
pictures    the confusion matrix as a picture
"""
