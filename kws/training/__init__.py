"""A data set -> a checkpoint.

recipe      the numbers of the short recipe and of the paper's, and the learning rate over time
batches     what each epoch sees, in which order, on which process
loss        cross-entropy, class weights, a teacher
average     the moving average of the weights
processes   one process, or several under torchrun
state       what a killed run needs to go on
evaluate    a split that is only judged
records     what is told of a run while it goes on:
  log         the figures of each epoch, in a file
  store       the address of an mlflow store, and what to say when it fails
  tracking    the same figures and the run's files in mlflow
run         all of it, epoch by epoch
loop        what the command calls
"""
