"""Random changes of training images, keyed: scale, windows, colours, pasted objects. All are off unless asked for."""
