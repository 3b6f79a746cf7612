"""Prints the memory of each GPU that torch can use, in GiB, one number a line: `python -m guie.kaggle.card_memory`."""

import torch

if __name__ == "__main__":
    for index in range(torch.cuda.device_count()):
        print(torch.cuda.get_device_properties(index).total_memory / 2**30)
