"""An inference server without a model: enough of one to try any configuration on a laptop."""
