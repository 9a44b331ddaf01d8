"""Coding data sets: `flic encode-dataset` without its command line.

Whatever shares the work out (one process, torchrun's, Ray's actors), each worker codes single
pictures to single files, and a picture whose file is up to date is not coded again. So a run that
was stopped, by whatever and wherever, goes on when it is started again, with any number of workers,
and its manifest is the same as that of a run that was never stopped.
"""
