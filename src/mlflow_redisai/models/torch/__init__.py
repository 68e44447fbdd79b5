"""PyTorch models: modules, torch.export programs and TorchScript."""
