"""A data set -> a checkpoint.

recipe      the numbers of the short recipe and of the paper's, and the learning rate over time
batches     what each epoch sees, in which order, on which process
loss        cross-entropy, class weights, a teacher
average     the moving average of the weights
processes   one process, or several under torchrun
state       what a killed run needs to go on
evaluate    a split that is only judged
loop        all of it, epoch by epoch
"""
