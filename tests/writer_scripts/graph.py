"""The graph of an ONNX model, and an embedding."""

import numpy as np
import onnx
from onnx import TensorProto, helper
from tensorboardX import SummaryWriter

x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
nodes = [helper.make_node("Relu", ["x"], ["h"], name="relu"), helper.make_node("Exp", ["h"], ["y"], name="exp")]
onnx.save(helper.make_model(helper.make_graph(nodes, "net", [x], [y])), "model.onnx")

with SummaryWriter("runs/graph/try1") as writer:
    writer.add_onnx_graph("model.onnx")
    writer.add_embedding(np.arange(12.0).reshape(4, 3), metadata=["a", "b", "c", "d"], global_step=1, tag="points")
    writer.add_scalar("loss", 1.0, 0)
    with open(f"{writer.logdir}/checkpoint.txt", "w") as checkpoint:  # noqa: PTH123 - as such scripts do
        checkpoint.write("weights")
