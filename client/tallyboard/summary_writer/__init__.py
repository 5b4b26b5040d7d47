"""`tallyboard.SummaryWriter`: code written for tensorboardX or torch.utils.tensorboard reports to the service."""
