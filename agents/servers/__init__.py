"""Other programs behind HTTP: the client, the hand-over of weights, the judge."""
