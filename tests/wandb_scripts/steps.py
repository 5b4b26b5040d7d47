"""The step given, filled in by several calls, held back, given for each batch of an epoch; odd values in between."""

import wandb

run = wandb.init(project="steps", dir=".", id="abc123", name="any name")
for step in range(3):
    wandb.log({"train/loss": 1.0 - step / 10}, step=step * 10)
    wandb.log({"train/acc": step / 10}, step=step * 10)
for value in (1, 2, 3):  # the last one stays, as always with wandb
    wandb.log({"epoch_loss": value}, step=30)
wandb.log({"a": 1}, commit=False)
wandb.log({"b": 2})  # ends step 30
wandb.log({"c": 1.5, "none": None, "flag": True, "message": "warming up", "nan": float("nan")})
wandb.log({"c": 2.5, "message": "done", "tokens": [1, 2, 3]}, commit=True)
wandb.log({"last": 1}, step=40)
with open(f"{wandb.run.dir}/model.txt", "w") as file:  # noqa: PTH123 - as such scripts do
    file.write("weights")
wandb.save("model.txt")
print(run.step, run.id, wandb.run is run, wandb.init(project="other") is run)
