"""PyTorch: modules, torch.export programs and TorchScript."""
